/**
 * How long members of a group wait for each other. What must hold between these numbers is asserted here: a primary that
 * is cut off stops serving before anybody may take its place, however differently the clocks of two machines run.
 */
import { invariant } from '@store/core';

export interface ReplicationTiming {
  /** Between two heartbeats of a primary. */
  readonly heartbeatMs: number;
  /** A primary serves so long after it sent the heartbeat that was granted. */
  readonly leaseMs: number;
  /** A member that has granted nothing for so long asks for another primary. */
  readonly graceMs: number;
  /** A member that says nothing for so long is removed. */
  readonly silentMs: number;
  /** The same for one that is there, and does not make a change or a flush. */
  readonly stalledMs: number;
  /** An operation that cannot go on is refused after so long, so that nobody's connection waits for it for ever. */
  readonly holdMs: number;
}

export const REPLICATION_TIMING: ReplicationTiming = {
  heartbeatMs: 400,
  leaseMs: 2000,
  graceMs: 3000,
  silentMs: 3000,
  stalledMs: 8000,
  holdMs: 10_000,
};

/** Two clocks run at rates that differ by at most this. Real ones differ by 0.0002. */
export const CLOCK_RATE_ERROR_MAX = 0.05;

/** @throws (an invariant) if a cut-off primary could serve while another one does */
export function checkTiming(timing: ReplicationTiming): void {
  const { heartbeatMs, leaseMs, graceMs, silentMs } = timing;
  const leaseAtMost = leaseMs * (1 + CLOCK_RATE_ERROR_MAX);
  const graceAtLeast = graceMs * (1 - CLOCK_RATE_ERROR_MAX);
  invariant(leaseAtMost < graceAtLeast, 'a lease ends before the grace period, by any clock');
  invariant(3 * heartbeatMs < leaseMs, 'a lease outlives two heartbeats that are lost');
  invariant(silentMs >= leaseMs, 'nobody is removed who is only late');
}

checkTiming(REPLICATION_TIMING);

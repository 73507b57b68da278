/**
 * Which daemons are connected to this master, and what they said last. Nothing of it is stored: a new leader learns it
 * from the daemons themselves within moments.
 */
import type { DaemonReport, Env, Traffic } from '@store/core';
import type { RosterView } from '../cluster/roster-view.js';
import { NO_TRAFFIC, trafficBetween } from './traffic.js';

/** A daemon's connection. */
export interface DaemonConnection {
  readonly daemonId: number;
  readonly startId: string;
  /** For messages: where it comes from. */
  readonly peer: string;
}

/** What is known of one daemon. */
export interface DaemonPresence {
  readonly connection: DaemonConnection | null;
  /** Monotonic milliseconds since it is up, or down. */
  readonly since: number;
  readonly report: DaemonReport | null;
  readonly traffic: Traffic;
  /** When it came up within the last hour, monotonic milliseconds. */
  readonly starts: readonly number[];
}

/** From here on a disk is given nothing new, and says so in the status; from the first it warns. */
export const NEARLY_FULL_PERCENT = 85;
export const FULL_PERCENT = 95;
const HOUR_MS = 3_600_000;
const STARTS_MAX = 1000;

export class Roster {
  readonly #env: Env;
  readonly #presences = new Map<number, DaemonPresence>();
  /** When this master began to lead: who did not come since is down for so long at least. */
  readonly #since: number;

  constructor(env: Env) {
    this.#env = env;
    this.#since = env.clock.now();
  }

  /** How long this master has been looking. */
  get lookedForMs(): number {
    return this.#env.clock.now() - this.#since;
  }

  presence(daemonId: number): DaemonPresence {
    return (
      this.#presences.get(daemonId) ?? {
        connection: null,
        since: this.#since,
        report: null,
        traffic: NO_TRAFFIC,
        starts: [],
      }
    );
  }

  /** It is there. */
  arrived(connection: DaemonConnection): void {
    const { clock } = this.#env;
    const now = clock.now();
    const before = this.presence(connection.daemonId);
    const isNewStart = before.connection?.startId !== connection.startId;
    const recent = before.starts.filter((at) => now - at < HOUR_MS);
    this.#presences.set(connection.daemonId, {
      ...before,
      connection,
      since: before.connection === null || isNewStart ? now : before.since,
      report: isNewStart ? null : before.report,
      traffic: NO_TRAFFIC,
      starts: isNewStart ? [...recent.slice(-STARTS_MAX), now] : before.starts,
    });
  }

  /** @returns false if another connection has taken its place already */
  left(connection: DaemonConnection): boolean {
    const before = this.#presences.get(connection.daemonId);
    if (before?.connection !== connection) return false;
    this.#presences.set(connection.daemonId, {
      ...before,
      connection: null,
      since: this.#env.clock.now(),
      traffic: NO_TRAFFIC,
    });
    return true;
  }

  reported(connection: DaemonConnection, report: DaemonReport, elapsedMs: number): void {
    const before = this.#presences.get(connection.daemonId);
    if (before?.connection !== connection) return;
    const traffic =
      before.report === null ? NO_TRAFFIC : trafficBetween(before.report, report, elapsedMs);
    this.#presences.set(connection.daemonId, { ...before, report, traffic });
  }

  /** What decisions about groups want to know. */
  view(): RosterView {
    return {
      startOf: (daemon) => this.presence(daemon).connection?.startId ?? null,
      sinceOf: (daemon) => this.presence(daemon).since,
      isFull: (daemon) => {
        const { report } = this.presence(daemon);
        return report !== null && (report.isFull || fullPercent(report) >= FULL_PERCENT);
      },
    };
  }

  forget(daemonId: number): void {
    this.#presences.delete(daemonId);
  }

  /** Traffic of all daemons together. */
  get traffics(): Traffic[] {
    return [...this.#presences.values()].map(({ traffic }) => traffic);
  }
}

export function fullPercent({
  capacityBytes,
  freeBytes,
}: Pick<DaemonReport, 'capacityBytes' | 'freeBytes'>): number {
  if (capacityBytes === 0) return 0;
  return Math.round((100 * (capacityBytes - freeBytes)) / capacityBytes);
}

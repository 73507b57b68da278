/**
 * What the log says when other daemons are silent: a daemon that dies is the primary or a member of hundreds of groups, each
 * of which asks the masters by itself. That is said once a daemon and second, with how many they are.
 */
import type { GroupRequestKind, Log } from '@store/core';

const AGAIN_MS = 1000;

/** Groups that asked since the last line. */
interface Asked {
  take: number;
  remove: number;
  saidAt: number;
}

export class FailoverNotes {
  readonly #log: Log;
  readonly #asked = new Map<number, Asked>();

  constructor(log: Log) {
    this.#log = log;
  }

  /** A group asks for something because of a daemon. */
  asks(kind: GroupRequestKind, daemon: number): void {
    if (kind !== 'take' && kind !== 'remove') return;
    const asked = this.#asked.get(daemon) ?? { take: 0, remove: 0, saidAt: -Infinity };
    asked[kind] += 1;
    this.#asked.set(daemon, asked);
  }

  /** To be called often. */
  tick(now: number): void {
    for (const [daemon, asked] of this.#asked) {
      if (now - asked.saidAt < AGAIN_MS) continue;
      const { take, remove } = asked;
      if (take + remove === 0) {
        this.#asked.delete(daemon);
        continue;
      }
      if (take > 0)
        this.#log.warn(
          { daemon },
          `The primary of ${groups(take)} is silent: asks to take its place`,
        );
      if (remove > 0)
        this.#log.warn(
          { daemon },
          `A member of ${groups(remove)} cannot be waited for: asks to go on without it`,
        );
      this.#asked.set(daemon, { take: 0, remove: 0, saidAt: now });
    }
  }
}

function groups(count: number): string {
  return count === 1 ? '1 group' : `${count} groups`;
}

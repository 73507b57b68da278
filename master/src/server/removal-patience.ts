/**
 * Who is cut off, the primary or the member that it wants out? If the member's daemon is connected to the masters, and
 * without it writes could not go on, the primary waits a little: if it is the one that is cut off, its members ask for its
 * place within that time, and the group goes on with them.
 */
import { StoreError, type Clock, type GroupRequest } from '@store/core';
import type { ClusterState } from '../cluster/cluster-state.js';
import type { IsAlive } from '../cluster/roster-view.js';

const PATIENCE_MS = 2500;
const KEPT_MS = 30_000;

export class RemovalPatience {
  readonly #clock: Clock;
  /** When a removal was asked for first, by what was asked. */
  readonly #since = new Map<string, number>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** @throws StoreError `E_BUSY` while the removal has to wait; it is asked for again */
  check(state: ClusterState, request: GroupRequest, isAlive: IsAlive): void {
    const { kind, pool, group, epoch, member, memberStart } = request;
    const found = state.map.pools.find(({ id }) => id === pool);
    const inSync = found?.groups[group]?.members.filter((one) => one.inSync !== null) ?? [];
    const isCounted = inSync.some(({ daemon, inSync: start }) => {
      return daemon === member && start === memberStart;
    });
    const stays = inSync.length - 1 >= (found?.minReplicas ?? 1);
    if (kind !== 'remove' || !isCounted || stays || !isAlive(member, memberStart)) return;
    const now = this.#clock.now();
    for (const [key, since] of this.#since) if (now - since > KEPT_MS) this.#since.delete(key);
    const key = `${pool}/${group} ${epoch} ${member}`;
    const since = this.#since.get(key) ?? now;
    this.#since.set(key, since);
    if (now - since < PATIENCE_MS)
      throw new StoreError(
        'E_BUSY',
        `Daemon ${member} is connected here, and without it the group takes no writes: it may be the primary that is cut off`,
      );
  }
}

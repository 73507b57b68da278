/** Tends the groups of a cluster while a master leads it: a round now and then, one at a time. */
import { messageOf, StoreError, type Env, type Timer } from '@store/core';
import type { ClusterLeader } from '../cluster/cluster-leader.js';
import { GroupTargets, presentDaemons } from '../cluster/group-targets.js';
import type { RosterView } from '../cluster/roster-view.js';
import { tendGroups, type TendLimits, type TendMemory } from '../cluster/tend-groups.js';

/** Several daemons that come at once are looked at together. */
const SOON_MS = 20;
/** As are several that are in sync. */
const JOINED_MS = 150;

export interface GroupTenderOptions {
  readonly env: Env;
  readonly leader: ClusterLeader;
  readonly view: RosterView;
  readonly limits: TendLimits;
  readonly defect: (error: unknown) => void;
}

export class GroupTender {
  readonly #options: GroupTenderOptions;
  readonly #memory: TendMemory;
  #timer: Timer | null = null;
  #isAtWork = false;
  #isStopped = false;

  constructor(options: GroupTenderOptions) {
    this.#options = options;
    const since = options.env.clock.now();
    this.#memory = { since, targets: new GroupTargets(), movedAt: new Map() };
  }

  /** What placement wants. */
  get targets(): GroupTargets {
    return this.#memory.targets;
  }

  /** A member is in sync: the next one may join. At a thousand daemons that happens all the time. */
  joined(): void {
    this.look(JOINED_MS);
  }

  /** To be called about once a second, and when daemons come. */
  look(afterMs = SOON_MS): void {
    if (this.#isStopped || this.#isAtWork || this.#timer !== null) return;
    this.#timer = this.#options.env.timers.after(afterMs, () => {
      this.#timer = null;
      this.#isAtWork = true;
      this.#round()
        .catch((error: unknown) => {
          const { env, defect } = this.#options;
          if (!(error instanceof StoreError)) defect(error);
          else if (!this.#isStopped)
            env.log.warn({ code: error.code }, `Groups were not tended: ${messageOf(error)}`);
        })
        .finally(() => (this.#isAtWork = false));
    });
  }

  stop(): void {
    this.#isStopped = true;
    this.#timer?.cancel();
    this.#timer = null;
  }

  async #round(): Promise<void> {
    const { env, leader, view, limits } = this.#options;
    const { downOutMs } = limits;
    const daemons = presentDaemons(leader.state, view, { now: env.clock.now(), downOutMs });
    await this.#memory.targets.refreshSliced(env, leader.state, daemons);
    if (this.#isStopped) return;
    // Looked at first without a decision, which would wait for the store: mostly there is nothing to do.
    const trial = { ...this.#memory, movedAt: new Map(this.#memory.movedAt) };
    if (tendGroups(leader.state, view, env.clock.now(), trial, limits) === leader.state) return;
    await leader.decide((state) => ({
      state: tendGroups(state, view, env.clock.now(), this.#memory, limits),
      result: null,
    }));
  }
}

/**
 * Says so when requests are not answered for long, and why as far as the map tells: whoever has a disk that hangs finds the
 * reason in the log of the gateway. Costs one timer every few seconds while there are requests.
 */
import type { ClientRequest } from '../client/client-request.js';
import type { Env, Timer } from '../env/env.js';

const LOOK_MS = 5000;
/** Looks that a request has seen when it is slow: 10 to 15 s. A failover takes less. */
const SLOW_LOOKS = 3;
/** The same reasons are not said again before that. */
const AGAIN_LOOKS = 12;
const REASONS_MAX = 3;
const GROUPS_NAMED_MAX = 4;

export interface SlowRequestsOptions {
  readonly env: Env;
  readonly pool: string;
  /** All that were sent to somebody or wait for somebody to be sent to. */
  readonly open: () => readonly ClientRequest[];
  /** Null: it is about no group. */
  readonly groupOf: (request: ClientRequest) => number | null;
  /** Why it may be that requests about a group are not answered: words that say the same for each group it is so. */
  readonly reasonOf: (group: number) => string;
}

export class SlowRequests {
  readonly #options: SlowRequestsOptions;
  #looks = 0;
  #timer: Timer | null = null;
  /** When it was said; 0: nothing is slow. */
  #toldAt = 0;
  /** What was said last. */
  #told = '';

  constructor(options: SlowRequestsOptions) {
    this.#options = options;
  }

  /** A request was taken. */
  began(request: ClientRequest): void {
    request.since = this.#looks;
    this.#timer ??= this.#options.env.timers.after(LOOK_MS, () => this.#look());
  }

  close(): void {
    this.#timer?.cancel();
  }

  #look(): void {
    const { env, open } = this.#options;
    this.#looks += 1;
    const waiting = open();
    const slow = waiting.filter(({ since }) => this.#looks - since >= SLOW_LOOKS);
    if (slow.length > 0) this.#tell(slow);
    else if (this.#toldAt > 0) {
      this.#toldAt = 0;
      env.log.info({ pool: this.#options.pool }, 'No request waits for long any more');
    }
    this.#timer =
      waiting.length === 0 && this.#toldAt === 0
        ? null
        : env.timers.after(LOOK_MS, () => this.#look());
  }

  #tell(slow: readonly ClientRequest[]): void {
    const { env, pool, groupOf, reasonOf } = this.#options;
    const groups = new Set(slow.map(groupOf).filter((group) => group !== null));
    const reasons = new Map<string, number[]>();
    for (const group of [...groups].sort((a, b) => a - b)) {
      const reason = reasonOf(group);
      const others = reasons.get(reason);
      if (others === undefined) reasons.set(reason, [group]);
      else others.push(group);
    }
    const told = [...reasons.keys()].sort().join('\n');
    const isNew = this.#toldAt === 0 || told !== this.#told;
    if (!isNew && this.#looks - this.#toldAt < AGAIN_LOOKS) return;
    [this.#toldAt, this.#told] = [this.#looks, told];
    const sentences = [...reasons]
      .slice(0, REASONS_MAX)
      .map(([reason, those]) => ` ${groupsText(those)} of pool '${pool}': ${reason}.`);
    const count = slow.length === 1 ? '1 request has' : `${slow.length} requests have`;
    const seconds = ((SLOW_LOOKS - 1) * LOOK_MS) / 1000;
    env.log.warn(
      { pool, requests: slow.length, groups: groups.size },
      `${count} waited for more than ${seconds} s.${sentences.join('')} See: store status`,
    );
  }
}

/** `Groups 1, 2 (and 5 more)` */
function groupsText(groups: readonly number[]): string {
  const named = groups.slice(0, GROUPS_NAMED_MAX).join(', ');
  const more = groups.length - GROUPS_NAMED_MAX;
  return `${groups.length === 1 ? 'Group' : 'Groups'} ${named}${more > 0 ? ` (and ${more} more)` : ''}`;
}

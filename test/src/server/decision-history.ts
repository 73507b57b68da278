/**
 * Everything that the masters of a cluster have stored, as etcd tells it: who was the leader at each moment, and who made
 * each decision. So a test can say of all of them afterwards that one master acted at a time.
 */
import type { StateBatch, StateStore, StateWatch } from '@store/master';

const CLUSTER_KEY = 'cluster';
const LEADER_KEY = 'leader';

export class DecisionHistory {
  /** What must not be. */
  readonly problems: string[] = [];
  /** Terms in which something was decided, in order. */
  readonly terms: string[] = [];
  decisionCount = 0;
  readonly #watch: StateWatch;
  #leader: string | null = null;
  #serial: number | null = null;

  /** Begins to watch, before any master is there. The store stays the caller's. */
  static async begin(store: StateStore): Promise<DecisionHistory> {
    const { revision, entries } = await store.read('');
    if (entries.length > 0) throw new Error('the history has begun already');
    return new DecisionHistory(store, revision);
  }

  private constructor(store: StateStore, revision: number) {
    this.#watch = store.watch('', revision, {
      changed: (batch) => this.#changed(batch),
      lost: (reason) => this.problems.push(`the history has a gap: ${reason}`),
    });
  }

  /** Of the last decision. */
  get serial(): number {
    return this.#serial ?? 0;
  }

  stop(): void {
    this.#watch.stop();
  }

  #changed({ revision, changes }: StateBatch): void {
    const cluster = changes.find(({ key }) => key === CLUSTER_KEY);
    const leader = changes.find(({ key }) => key === LEADER_KEY);
    if (cluster !== undefined) this.#decided(revision, cluster.value);
    if (leader === undefined) return;
    const next = leader.value === null ? null : idOf(leader.value);
    if (next !== null && this.#leader !== null)
      this.problems.push(`${next} took over from ${this.#leader}, which still led`);
    this.#leader = next;
  }

  #decided(revision: number, value: Buffer | null): void {
    if (value === null) {
      this.problems.push(`revision ${revision} has removed the cluster`);
      return;
    }
    const { serial, by } = JSON.parse(value.toString()) as { serial: number; by: string };
    this.decisionCount += 1;
    if (this.#serial !== null && serial !== this.#serial + 1)
      this.problems.push(`decision ${serial} follows ${this.#serial}`);
    if (by !== this.#leader)
      this.problems.push(`decision ${serial} is of ${by} while ${this.#leader ?? 'nobody'} led`);
    this.#serial = serial;
    if (this.terms.at(-1) !== by) this.terms.push(by);
  }
}

function idOf(value: Buffer): string {
  return (JSON.parse(value.toString()) as { id: string }).id; // an election has written it
}

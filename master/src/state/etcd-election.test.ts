/**
 * Three candidates, each with a member of its own to talk to first, while members are killed one by one and candidates
 * hang. Afterwards the history of the state is the judge: whatever was decided, was decided by the one who led then, and
 * what was acknowledged is in it.
 */
import { randomInt } from 'node:crypto';
import { realEnv, silentLog, StoreError, type Env } from '@store/core';
import { SimRandom } from '@store/core/sim';
import t from 'tap';
import { EtcdCluster } from '../testing/etcd-cluster.js';
import { Election, LEADER_KEY, type Leadership } from './election.js';
import { EtcdState } from './etcd-state.js';
import { StoppableEnv, until, Watcher } from './state-user.js';
import type { StateStore } from './state-store.js';

t.setTimeout(360_000);
const TTL_MS = 2000;
const HARM_MS = 20_000;
const PAUSE_MS = 20;

const seed = Number(process.env['STORE_TEST_SEED'] ?? randomInt(2 ** 31));
t.comment(`replay: STORE_TEST_SEED=${seed} node ${process.argv[1] ?? ''}`);
const random = new SimRandom(seed, 1);
const env = realEnv(silentLog);

type Outcome = 'applied' | 'refused' | 'failed' | 'in doubt';

interface Decision {
  readonly value: string;
  readonly outcome: Outcome;
  readonly revision: number;
}

/** A master that decides all the time, also when its time is over. */
class Decider {
  readonly decisions: Decision[] = [];
  readonly process: StoppableEnv;
  readonly #store: StateStore;
  readonly #election: Election;
  #term: Leadership | null = null;
  #isOver = false;
  readonly #work: Promise<void>;

  constructor(env: Env, store: StateStore, address: string) {
    this.#store = store;
    this.process = new StoppableEnv(env);
    this.#election = new Election(this.process.env, this.process.store(store), {
      address,
      ttlMs: TTL_MS,
      events: {
        won: (term) => (this.#term = term),
        lost: () => undefined,
        follows: () => undefined,
      },
    });
    this.#work = this.#decideOften();
  }

  leads(): boolean {
    return this.#election.leadership() !== null;
  }

  async stop(): Promise<void> {
    this.#isOver = true;
    this.process.resume();
    await this.#work;
    await this.#election.close();
  }

  async #decideOften(): Promise<void> {
    while (!this.#isOver) {
      if (this.#term !== null) this.decisions.push(await this.#decide(this.#term));
      await env.timers.sleep(PAUSE_MS);
    }
  }

  async #decide(term: Leadership): Promise<Decision> {
    const value = `${term.id} ${this.decisions.length}`;
    try {
      const { applied, revision } = await this.#store.commit({
        conditions: [term.guard()],
        changes: [{ key: 'decision', value: Buffer.from(value) }],
      });
      return { value, revision, outcome: applied ? 'applied' : 'refused' };
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      return { value, revision: 0, outcome: error.code === 'E_IN_DOUBT' ? 'in doubt' : 'failed' };
    }
  }
}

/** Follows the history; returns what is wrong with it, and each decision with its revision. */
function judge({ batches }: Watcher): { problems: string[]; made: Map<string, number> } {
  const [problems, made] = [[] as string[], new Map<string, number>()];
  let leader: string | null = null;
  for (const { revision, changes } of batches)
    for (const { key, value } of changes) {
      const text = value?.toString() ?? '';
      if (key === LEADER_KEY) {
        const id = value === null ? null : (JSON.parse(text) as { id: string }).id; // as elections write it
        if (id !== null && leader !== null) problems.push(`${revision}: ${id} beside ${leader}`);
        leader = id;
      } else {
        if (text.split(' ')[0] !== leader) problems.push(`${revision}: ${text}, led by ${leader}`);
        made.set(text, revision);
      }
    }
  return { problems, made };
}

await t.test('whoever decides leads, while members are killed and candidates hang', async (t) => {
  const cluster = await EtcdCluster.start(t);
  const connect = (first: number): EtcdState => {
    const { endpoints } = cluster;
    return new EtcdState(env, {
      endpoints: [...endpoints.slice(first), ...endpoints.slice(0, first)],
      cluster: 'election',
      tls: null,
      user: null,
      requestMs: 1000,
      idleMs: 1000,
    });
  };
  const states = [0, 1, 2, 0].map(connect);
  const [observer] = states.splice(3);
  if (observer === undefined) throw new Error('There is one for the observer');
  const history = new Watcher();
  const { revision: start } = await observer.read('');
  observer.watch('', start, history);
  const deciders = states.map((state, at) => new Decider(env, state, `candidate-${at}:1`));
  const anyLeads = (): boolean => deciders.some((one) => one.leads());
  const anotherLeads = (than: Decider | null | undefined) => (): boolean =>
    deciders.some((one) => one !== than && one.leads());

  const endMs = env.clock.now() + HARM_MS;
  for (let round = 0; env.clock.now() < endMs; round += 1) {
    await until(env, 'somebody leads', anyLeads, 30_000);
    const member = cluster.member(random.below(3));
    const hung = round === 0 || random.below(2) === 0 ? deciders.find((one) => one.leads()) : null;
    hung?.process.stop();
    await member.kill();
    await env.timers.sleep(500 + random.below(3000));
    if (round === 0) await until(env, 'another leads', anotherLeads(hung), 30_000);
    hung?.process.resume();
    member.start();
    await cluster.ready();
  }
  await until(env, 'somebody leads at last', anyLeads, 30_000);
  for (const decider of deciders) await decider.stop();

  const decisions = deciders.flatMap((one) => one.decisions);
  const newest = Math.max(...decisions.map(({ revision }) => revision));
  const isTold = (): boolean => (history.batches.at(-1)?.revision ?? 0) >= newest;
  await until(env, 'the whole history', isTold, 30_000);
  t.same(history.losses, []);
  const { problems, made } = judge(history);
  t.same(problems, []);
  const wrong = decisions.filter(({ value, outcome, revision }) => {
    if (outcome === 'applied') return made.get(value) !== revision;
    return outcome !== 'in doubt' && made.has(value);
  });
  t.same(wrong, [], 'what was answered is what happened');
  const count = (one: Outcome): number => decisions.filter(({ outcome }) => outcome === one).length;
  const terms = new Set([...made.keys()].map((value) => value.split(' ')[0])).size;
  t.ok(count('applied') >= 20 && terms >= 2, 'it was worth looking');
  t.comment(
    `${terms} terms; ${count('applied')} decisions, ${count('refused')} refused, ${count('failed')} failed, ${count('in doubt')} in doubt`,
  );
  await Promise.all([observer, ...states].map((state) => state.close()));
});

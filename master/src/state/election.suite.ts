/** Elections: one leads, and who does not lead any more cannot decide. */
import type { Env } from '@store/core';
import { Election, type Leadership } from './election.js';
import type { StateStory } from './state-store.suite.js';
import { StoppableEnv, until } from './state-user.js';
import type { StateStore } from './state-store.js';

const TTL_MS = 2000;

/** A master that notes what its election tells it. */
class Candidate {
  readonly won: Leadership[] = [];
  readonly lost: string[] = [];
  readonly election: Election;
  readonly #store: StateStore;

  constructor(env: Env, store: StateStore, address: string, ttlMs: number = TTL_MS) {
    this.#store = store;
    this.election = new Election(env, store, {
      address,
      ttlMs,
      events: {
        won: (leadership) => this.won.push(leadership),
        lost: (_leadership, reason) => this.lost.push(reason),
        follows: () => undefined,
      },
    });
  }

  leads(): boolean {
    return this.election.leadership() !== null;
  }

  leader(): string | undefined {
    return this.election.whoLeads()?.address;
  }

  /** A decision under the last term that was won. */
  async decide(value: string): Promise<boolean> {
    const term = this.won.at(-1);
    if (term === undefined) throw new Error('This candidate never led');
    const { applied } = await this.#store.commit({
      conditions: [term.guard()],
      changes: [{ key: 'decision', value: Buffer.from(value) }],
    });
    return applied;
  }
}

export async function electionStories(story: StateStory): Promise<void> {
  await story('of several candidates one leads, and the others know it', async (t, s) => {
    const candidates: Candidate[] = [];
    for (const address of ['one:1', 'two:2', 'three:3'])
      candidates.push(new Candidate(s.env, await s.connect(), address));
    const leaders = (): Candidate[] => candidates.filter((candidate) => candidate.leads());
    await until(s.env, 'a leader', () => leaders().length > 0);
    const [leader] = leaders();
    await until(s.env, 'all know it', () =>
      candidates.every((one) => one.leader() === leader?.leader()),
    );
    const start = s.env.clock.now();
    while (s.env.clock.now() - start < TTL_MS * 1.5) {
      t.same(leaders(), [leader]);
      await s.env.timers.sleep(100);
    }
    t.ok(await leader?.decide('mine'), 'it decides');
    t.same(candidates.map(({ won }) => won.length).sort(), [0, 0, 1]); // prettier-ignore
    for (const { election } of candidates) await election.close();
    t.equal((await s.store.read('leader')).entries.length, 0);
  });

  await story('a leader that resigns hands over at once', async (t, s) => {
    const first = new Candidate(s.env, s.store, 'first:1', 60_000);
    await until(s.env, 'a leader', () => first.leads());
    const second = new Candidate(s.env, await s.connect(), 'second:2', 60_000);
    await until(s.env, 'it follows', () => second.leader() === 'first:1');
    await first.election.close();
    t.equal(first.election.leadership(), null);
    t.same(first.lost, ['This master resigned']);
    await until(s.env, 'the next leads, long before the lease is over', () => second.leads());
    t.notOk(await first.decide('late'), 'the first decides no more');
    t.ok(await second.decide('mine'));
    await second.election.close();
  });

  await story('a leader that hangs is deposed, and what it decides is refused', async (t, s) => {
    const stoppable = new StoppableEnv(s.env);
    const first = new Candidate(stoppable.env, stoppable.store(s.store), 'first:1');
    await until(s.env, 'a leader', () => first.leads());
    const term = first.won[0];
    const second = new Candidate(s.env, await s.connect(), 'second:2');
    t.ok(await first.decide('in time'));
    stoppable.stop();
    await until(s.env, 'the first knows by its clock', () => term?.isLeader() === false);
    t.equal(first.election.leadership(), null);
    t.equal(first.election.whoLeads(), null);
    await until(s.env, 'the other leads', () => second.leads());
    t.notOk(await first.decide('late'), 'the store refuses the deposed one');
    t.ok(await second.decide('mine'));
    t.equal((await s.store.read('decision')).entries[0]?.value.toString(), 'mine');
    stoppable.resume();
    await until(s.env, 'the first follows', () => first.leader() === 'second:2');
    t.equal(first.lost.length, 1, first.lost.join());
    t.equal(term?.isLeader(), false, 'a lost term never comes back');
    await second.election.close();
    await until(s.env, 'it leads again', () => first.leads());
    t.not(first.won[1]?.id, term?.id);
    t.equal(term?.isLeader(), false);
    await first.election.close();
  });

  await story('a leader whose key is taken away stops at once', async (t, s) => {
    const only = new Candidate(s.env, s.store, 'only:1', 60_000);
    await until(s.env, 'a leader', () => only.leads());
    await s.store.commit({ conditions: [], changes: [{ key: 'leader', value: null }] });
    await until(s.env, 'another term', () => only.won.length === 2 && only.leads());
    t.equal(only.lost.length, 1);
    t.equal(only.won[0]?.isLeader(), false);
    await only.election.close();
  });
}

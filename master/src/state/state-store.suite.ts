/** What every `StateStore` must do, told as tests. An implementation passes the suite or it is not one. */
import { realEnv, silentLog, type Env } from '@store/core';
import { codeOf } from '@store/core/testing';
import type { Test } from 'tap';
import { electionStories } from './election.suite.js';
import { leaseStories } from './state-lease.suite.js';
import { COMMIT_BYTES_MAX, COMMIT_PARTS_MAX, STATE_KEY_BYTES_MAX } from './state-rules.js';
import { get, put, until, Watcher } from './state-user.js';
import { watchStories } from './state-watch.suite.js';
import type { StateStore } from './state-store.js';

/** One empty state, for one story. */
export interface StateOfStory {
  /** Another client of it, or the same one where there can be only one. */
  connect(): Promise<StateStore>;
  /** Closes all of them. */
  close(): Promise<void>;
}

/** What a story has at hand. */
export interface StoryTools {
  readonly env: Env;
  readonly store: StateStore;
  readonly connect: () => Promise<StateStore>;
}

export type StateStory = (
  title: string,
  play: (t: Test, tools: StoryTools) => Promise<void>,
) => Promise<void>;

/** The contract of `StateStore` as a subtest of `t`; `open` makes an empty state for each story. */
export async function stateStoreSuite(
  t: Test,
  name: string,
  open: () => Promise<StateOfStory>,
): Promise<void> {
  const env = realEnv(silentLog);
  await t.test(name, async (t) => {
    const story: StateStory = async (title, play) => {
      await t.test(title, async (t) => {
        const state = await open();
        try {
          await play(t, { env, store: await state.connect(), connect: () => state.connect() });
        } finally {
          await state.close();
        }
      });
    };
    await commitStories(story);
    await concurrencyStories(story);
    await watchStories(story);
    await leaseStories(story);
    await electionStories(story);
  });
}

async function commitStories(story: StateStory): Promise<void> {
  await story('what was committed is read, in order of keys and below the prefix', async (t, s) => {
    const { store } = s;
    t.same((await store.read('')).entries, []);
    const first = await put(store, 'pools/b', 'two');
    const second = await put(store, 'pools/a', 'one');
    const third = await put(store, 'pool', 'other');
    t.ok(first.applied && first.revision > 0);
    t.ok(second.revision > first.revision && third.revision > second.revision);
    const { revision, entries } = await (await s.connect()).read('pools/');
    t.equal(revision, third.revision);
    t.same(entries, [
      { key: 'pools/a', value: Buffer.from('one'), revision: second.revision },
      { key: 'pools/b', value: Buffer.from('two'), revision: first.revision },
    ]);
    t.equal((await store.read('')).entries.length, 3);
  });

  await story('a commit is refused if a condition does not hold', async (t, { store }) => {
    const commit = (revision: number, value: string | null) =>
      store.commit({
        conditions: [{ key: 'k', revision }],
        changes: [{ key: 'k', value: value === null ? null : Buffer.from(value) }],
      });
    t.notOk((await commit(1, 'x')).applied, 'absent, and expected to be there');
    const made = await commit(0, 'made');
    t.ok(made.applied, 'absent, as expected');
    const again = await commit(0, 'x');
    t.notOk(again.applied, 'there, and expected to be absent');
    t.ok(again.revision >= made.revision);
    const changed = await commit(made.revision, 'changed');
    t.ok(changed.applied, 'at the expected revision');
    t.notOk((await commit(made.revision, 'x')).applied, 'at a newer one');
    t.same(await get(store, 'k'), { value: 'changed', revision: changed.revision });
    t.ok((await commit(changed.revision, null)).applied);
    t.equal(await get(store, 'k'), null);
    t.ok((await commit(0, 'made again')).applied);
  });

  await story('a commit is applied as a whole or not at all', async (t, { store }) => {
    const one = await put(store, 'one', '1');
    await put(store, 'two', '2');
    const changes = [
      { key: 'one', value: null },
      { key: 'two', value: Buffer.from('changed') },
      { key: 'three', value: Buffer.from('new') },
    ];
    const conditions = [
      { key: 'one', revision: one.revision },
      { key: 'two', revision: one.revision },
    ];
    t.notOk((await store.commit({ conditions, changes })).applied, 'one condition of two fails');
    t.equal((await get(store, 'one'))?.value, '1');
    t.equal(await get(store, 'three'), null);
    const { revision, applied } = await store.commit({
      conditions: conditions.slice(0, 1),
      changes,
    });
    t.ok(applied);
    t.same((await store.read('')).entries, [
      { key: 'three', value: Buffer.from('new'), revision },
      { key: 'two', value: Buffer.from('changed'), revision },
    ]);
  });

  await story('a commit without changes only asks', async (t, { store }) => {
    const { revision } = await put(store, 'k', 'v');
    const ask = (expected: number) =>
      store.commit({ conditions: [{ key: 'k', revision: expected }], changes: [] });
    t.ok((await ask(revision)).applied);
    t.notOk((await ask(0)).applied);
    t.equal((await get(store, 'k'))?.revision, revision);
    t.ok((await store.commit({ conditions: [], changes: [{ key: 'no', value: null }] })).applied);
  });

  await story('values are any bytes, within the limits', async (t, { store }) => {
    const values = [
      Buffer.alloc(0),
      Buffer.from([0, 255, 10, 128, 195]),
      Buffer.alloc(COMMIT_BYTES_MAX, 7),
    ];
    const longKey = 'k'.repeat(STATE_KEY_BYTES_MAX);
    for (const value of values) {
      await store.commit({ conditions: [], changes: [{ key: longKey, value }] });
      t.ok((await store.read('k')).entries[0]?.value.equals(value), `${value.length} bytes`);
    }
    const refused = async (key: string, value: Buffer) =>
      codeOf(store.commit({ conditions: [], changes: [{ key, value }] }));
    t.equal(await refused('k', Buffer.alloc(COMMIT_BYTES_MAX + 1)), 'E_INVALID');
    for (const key of ['', 'a b', 'ä', 'line\n', `${longKey}k`])
      t.equal(await refused(key, Buffer.alloc(0)), 'E_INVALID', key);
    const twice = ['x', 'x'].map((key) => ({ key, value: Buffer.alloc(0) }));
    t.equal(await codeOf(store.commit({ conditions: [], changes: twice })), 'E_INVALID');
    const parts = (count: number) =>
      Array.from({ length: count }, (_, index) => ({ key: `m${index}`, value: Buffer.alloc(1) }));
    const most = { conditions: [], changes: parts(COMMIT_PARTS_MAX) };
    t.ok((await store.commit(most)).applied, 'as many as may be');
    const tooMany = { conditions: [], changes: parts(COMMIT_PARTS_MAX + 1) };
    t.equal(await codeOf(store.commit(tooMany)), 'E_INVALID');
  });

  await story('after close everything answers E_CLOSED', async (t, { store }) => {
    const watcher = new Watcher();
    const { revision } = await store.read('');
    store.watch('', revision, watcher);
    await store.close();
    t.equal(await codeOf(store.read('')), 'E_CLOSED');
    t.equal(await codeOf(put(store, 'k', 'v')), 'E_CLOSED');
    t.equal(await codeOf(store.lease(5000)), 'E_CLOSED');
    t.throws(() => store.watch('', revision, watcher), { code: 'E_CLOSED' });
    t.same([watcher.batches, watcher.losses], [[], []]);
  });
}

async function concurrencyStories(story: StateStory): Promise<void> {
  await story('increments by several clients lose nothing', async (t, { store, connect }) => {
    const [clients, increments] = [5, 12];
    await put(store, 'counter', '0');
    const count = async (): Promise<void> => {
      const client = await connect();
      for (let done = 0; done < increments;) {
        const entry = await get(client, 'counter');
        if (entry === null) throw new Error('The counter is gone');
        const { applied } = await client.commit({
          conditions: [{ key: 'counter', revision: entry.revision }],
          changes: [{ key: 'counter', value: Buffer.from(`${Number(entry.value) + 1}`) }],
        });
        if (applied) done += 1;
      }
    };
    await Promise.all(Array.from({ length: clients }, count));
    t.equal((await get(store, 'counter'))?.value, `${clients * increments}`);
  });

  await story('a read sees all entries at one moment', async (t, { env, store, connect }) => {
    const keys = Array.from({ length: 600 }, (_, index) => `many/${1000 + index}`);
    const ends = [keys[0] ?? '', keys.at(-1) ?? ''];
    for (let at = 0; at < keys.length; at += COMMIT_PARTS_MAX)
      await store.commit({
        conditions: [],
        changes: keys
          .slice(at, at + COMMIT_PARTS_MAX)
          .map((key) => ({ key, value: Buffer.from('0') })),
      });
    const writer = await connect();
    let isOver = false;
    const writing = (async () => {
      for (let round = 1; !isOver; round += 1) {
        const value = Buffer.from(`${round}`);
        await writer.commit({ conditions: [], changes: ends.map((key) => ({ key, value })) });
      }
    })();
    const seen = new Set<string>();
    await until(env, 'five different moments', async () => {
      const { entries } = await store.read('many/');
      t.equal(entries.length, keys.length);
      const [first, last] = [entries[0]?.value.toString(), entries.at(-1)?.value.toString()];
      if (first !== last) t.fail(`the first entry says ${first ?? ''}, the last ${last ?? ''}`);
      seen.add(first ?? '');
      return seen.size >= 5;
    });
    isOver = true;
    await writing;
  });
}

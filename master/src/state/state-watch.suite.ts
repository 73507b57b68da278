/** Watches: every change, once, in order. */
import { codeOf } from '@store/core/testing';
import type { StateStory } from './state-store.suite.js';
import { put, until, Watcher } from './state-user.js';

export async function watchStories(story: StateStory): Promise<void> {
  await story('a watch tells what comes and what was since its revision', async (t, s) => {
    const { env, store } = s;
    const before = await put(store, 'w/a', '1');
    const second = await put(store, 'w/b', '2');
    await put(store, 'elsewhere', 'x');
    const watcher = new Watcher();
    const watch = store.watch('w/', before.revision, watcher);
    t.same(watcher.batches, [], 'never before watch() returns');
    await until(env, 'the past', () => watcher.batches.length === 1);
    const both = await (
      await s.connect()
    ).commit({
      conditions: [],
      changes: [
        { key: 'w/a', value: null },
        { key: 'w/c', value: Buffer.from('3') },
        { key: 'elsewhere', value: null },
      ],
    });
    await until(env, 'the present', () => watcher.batches.length === 2);
    watch.stop();
    await put(store, 'w/d', '4');
    const later = new Watcher();
    store.watch('w/', both.revision, later);
    await until(env, 'the other watch', () => later.batches.length === 1);
    t.same(watcher.lines(), [`${second.revision}:w/b=2`, `${both.revision}:w/a,w/c=3`]);
    t.same(watcher.losses, []);
  });

  await story('watches miss nothing of what many commit at once', async (t, s) => {
    const { env, store } = s;
    const [writers, commits] = [4, 25];
    const { revision: start } = await store.read('');
    const watchers = [new Watcher()];
    store.watch('race/', start, watchers[0] ?? new Watcher());
    const expected: string[] = [];
    const write = async (writer: number): Promise<void> => {
      const client = await s.connect();
      for (let round = 0; round < commits; round += 1) {
        const value = Buffer.from(`${writer}.${round}`);
        const own = `race/own${writer}`;
        const { revision } = await client.commit({
          conditions: [],
          changes: [
            { key: 'race/shared', value },
            { key: own, value: round % 5 === 4 ? null : value },
          ],
        });
        const text = value.toString();
        expected.push(
          `${revision}:${round % 5 === 4 ? own : `${own}=${text}`},race/shared=${text}`,
        );
        if (round % 8 === 3) {
          const late = new Watcher();
          watchers.push(late);
          client.watch('race/', start, late);
        }
      }
    };
    await Promise.all(Array.from({ length: writers }, (_, writer) => write(writer)));
    const byRevision = (line: string): number => Number(line.split(':')[0]);
    expected.sort((left, right) => byRevision(left) - byRevision(right));
    for (const watcher of watchers) {
      await until(env, 'all changes', () => watcher.batches.length >= expected.length);
      t.same(watcher.lines(), expected);
      t.same(watcher.losses, []);
    }
  });

  await story('what a snapshot and its watch say together is the state', async (t, s) => {
    const { env, store } = s;
    const other = await s.connect();
    const state = new Map<string, string>();
    const writing = (async () => {
      for (let round = 0; round < 60; round += 1) {
        const key = `s/${round % 7}`;
        const value = round % 3 === 2 ? null : Buffer.from(`${round}`);
        await other.commit({ conditions: [], changes: [{ key, value }] });
      }
      await put(other, 's/end', 'end');
    })();
    await env.timers.sleep(5);
    const snapshot = await store.read('s/');
    for (const { key, value } of snapshot.entries) state.set(key, value.toString());
    const problems: string[] = [];
    let last = snapshot.revision;
    store.watch('s/', snapshot.revision, {
      changed: ({ revision, changes }) => {
        if (revision <= last) problems.push(`${revision} after ${last}`);
        last = revision;
        for (const { key, value } of changes) {
          if (value === null) state.delete(key);
          else state.set(key, value.toString());
        }
      },
      lost: (reason) => problems.push(reason),
    });
    await writing;
    await until(env, 'the last change', () => state.has('s/end'));
    const { entries } = await store.read('s/');
    t.same([...state].sort(), entries.map(({ key, value }) => [key, value.toString()])); // prettier-ignore
    t.same(problems, []);
  });

  await story('a compaction forgets what was, and nothing that is', async (t, s) => {
    const { env, store } = s;
    const { revision: old } = await put(store, 'c/old', '1');
    await put(store, 'c/k', '2');
    const { revision: kept } = await put(store, 'c/k', '3');
    const present = new Watcher();
    store.watch('c/', kept, present);
    await store.compact(kept);
    await store.compact(kept);
    await store.compact(old);
    const [late, inTime] = [new Watcher(), new Watcher()];
    store.watch('c/', old - 1, late);
    store.watch('c/', kept, inTime);
    const last = await put(store, 'c/k', '4');
    await until(env, 'the loss', () => late.losses.length === 1);
    await until(env, 'the change', () => present.batches.length + inTime.batches.length === 2);
    t.same([late.batches, inTime.losses, present.losses], [[], [], []]);
    const { revision, entries } = await store.read('c/');
    t.same(entries.map(({ key, value }) => [key, value.toString()]), [['c/k', '4'], ['c/old', '1']]); // prettier-ignore
    const again = new Watcher();
    store.watch('c/', revision, again);
    const next = await put(store, 'c/k', '5');
    await until(env, 'it goes on from what was read', () => again.batches.length === 1);
    t.ok(next.revision > last.revision);
    t.equal(await codeOf(store.compact(next.revision + 1_000_000)), 'E_INVALID');
  });
}

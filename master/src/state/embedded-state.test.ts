import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { realEnv, silentLog } from '@store/core';
import { codeOf } from '@store/core/testing';
import t from 'tap';
import { EmbeddedState } from './embedded-state.js';
import { stateStoreSuite } from './state-store.suite.js';
import { get, put, until, Watcher } from './state-user.js';

const env = realEnv(silentLog);

function makeFolder(): string {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'state-'));
  t.teardown(() => fs.rmSync(folder, { recursive: true, force: true }));
  return folder;
}

async function openState(folder: string): Promise<EmbeddedState> {
  return EmbeddedState.open(env, folder, { create: true });
}

await stateStoreSuite(t, 'a state in a folder', async () => {
  const state = await openState(makeFolder());
  return { connect: () => Promise.resolve(state), close: () => state.close() };
});

await t.test('after opening again all is there, but what was bound to a lease', async (t) => {
  const folder = makeFolder();
  const before = await openState(folder);
  const lease = await before.lease(60_000);
  await before.commit({ conditions: [], changes: [{ key: 'l', value: Buffer.alloc(1), lease }] });
  const { revision } = await put(before, 'k', 'v');
  t.equal(await codeOf(openState(folder)), 'E_IN_USE');
  await before.close();
  const after = await openState(folder);
  t.same(await get(after, 'k'), { value: 'v', revision });
  t.equal(await get(after, 'l'), null);
  t.ok((await put(after, 'next', '')).revision > revision, 'revisions go on');
  t.equal(
    await codeOf(
      after.commit({ conditions: [], changes: [{ key: 'l', value: Buffer.alloc(1), lease }] }),
    ),
    'E_NOT_FOUND',
    'a lease of another start',
  );
  const watcher = new Watcher();
  after.watch('', revision - 1, watcher);
  const ahead = new Watcher();
  after.watch('', revision + 1000, ahead);
  await until(env, 'the loss', () => watcher.losses.length + ahead.losses.length === 2);
  t.match([watcher.losses[0], ahead.losses[0]], [/not kept/, /not been reached/]);
  await after.close();
});

await t.test('a watch that is too far behind hears that it lost something', async (t) => {
  const state = await openState(makeFolder());
  await Promise.all(Array.from({ length: 500 }, (_, index) => put(state, `k${index}`, '')));
  const { revision } = await put(state, 'k', '');
  await Promise.all(Array.from({ length: 700 }, (_, index) => put(state, `k${index}`, '')));
  const [old, recent] = [new Watcher(), new Watcher()];
  state.watch('', 1, old);
  state.watch('', revision, recent);
  await until(env, 'both', () => old.losses.length + recent.batches.length === 701);
  t.same([old.batches.length, recent.losses.length], [0, 0]);
  await state.close();
});

await t.test('only so many commits wait', async (t) => {
  const state = await openState(makeFolder());
  const codes = await Promise.all(
    Array.from({ length: 1100 }, (_, index) => codeOf(put(state, 'k', `${index}`))),
  );
  t.ok(codes.filter((code) => code === 'E_BUSY').length >= 90);
  t.ok(codes.filter((code) => code === null).length >= 1000);
  t.equal(await codeOf(put(state, 'k', 'later')), null);
  await state.close();
});

await t.test('a folder that is not ours is refused, and left as it is', async (t) => {
  const refusal = async (name: string, text: string): Promise<string> => {
    const folder = makeFolder();
    fs.writeFileSync(path.join(folder, name), text);
    t.equal(await codeOf(openState(folder)), 'E_FORMAT');
    t.same(fs.readdirSync(folder).sort(), ['lock', name].sort()); // prettier-ignore
    return openState(folder).then(
      () => '',
      (error: unknown) => (error as Error).message,
    );
  };
  t.match(await refusal('holiday.jpg', 'x'), /choose an empty folder/);
  t.match(await refusal('format', 'store 1\n'), /objects of a daemon/);
  t.match(await refusal('format', 'store-state 99\n'), /version 99/);
  t.match(await refusal('format', '\0\0'), /did not write/);
  const missing = path.join(makeFolder(), 'missing');
  t.equal(await codeOf(EmbeddedState.open(env, missing, { create: false })), 'E_NOT_FOUND');
  t.equal(await codeOf(EmbeddedState.open(env, makeFolder(), { create: false })), 'E_NOT_FOUND');
});

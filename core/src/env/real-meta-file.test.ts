import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import t, { type Test } from 'tap';
import type { MetaChange } from './disk.js';
import { RealMetaStore } from './real-meta-store.js';
import { silentLog } from './silent-log.js';

const PAGE_BYTES = 4096;
const MODULE = new URL('./real-meta-store.js', import.meta.url).href;
const SILENT_LOG = new URL('./silent-log.js', import.meta.url).href;

function open(folder: string): RealMetaStore {
  return RealMetaStore.open(folder, () => 1e9, silentLog);
}

function key(number: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(number);
  return bytes;
}

async function commit(store: RealMetaStore, changes: MetaChange[]): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    store.commit(changes, (error) => (error === null ? resolve() : reject(error)));
  });
}

/** Entries `first` to `last`; every tenth has a value of several pages. */
function entries(first: number, last: number): MetaChange[] {
  const all: MetaChange[] = [];
  for (let one = first; one < last; one += 1)
    all.push({ key: key(one), value: Buffer.alloc(one % 10 === 0 ? 20_000 : 500, one) });
  return all;
}

/** A store with a few hundred pages, closed. */
async function makeStore(test: Test): Promise<{ folder: string; file: string }> {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'store-meta-'));
  test.teardown(() => fs.rmSync(folder, { recursive: true, force: true }));
  const store = open(path.join(folder, 'meta'));
  await commit(store, entries(0, 1000));
  await commit(store, entries(200, 400));
  await store.close();
  return { folder: path.join(folder, 'meta'), file: path.join(folder, 'meta', 'data.mdb') };
}

/** What a process of its own says that opens the store and reads all of it: it may die of a signal. */
function readElsewhere(folder: string): { signal: string | null; output: string } {
  const program = `
    import { RealMetaStore } from ${JSON.stringify(MODULE)};
    import { silentLog } from ${JSON.stringify(SILENT_LOG)};
    try {
      const store = RealMetaStore.open(${JSON.stringify(folder)}, () => 1e9, silentLog);
      const all = store.range(Buffer.alloc(1), Buffer.alloc(8, 255), 1e6);
      console.log(all.length + ' entries');
      await store.close();
    } catch (error) {
      console.log(error.message);
    }`;
  const { signal, stdout } = spawnSync(
    process.execPath,
    ['--input-type=module', '--eval', program],
    { encoding: 'utf8', timeout: 30_000 },
  );
  return { signal, output: stdout.trim() };
}

await t.test('metadata that end too early are refused with a message, wherever', async (t) => {
  const { folder, file } = await makeStore(t);
  const whole = fs.readFileSync(file);
  t.same(readElsewhere(folder), { signal: null, output: '1000 entries' });
  const pages = whole.length / PAGE_BYTES;
  t.ok(pages > 100, `${pages} pages`);
  for (const left of [pages - 1, pages / 2, 3, 2, 1.5, 1, 0.01]) {
    fs.writeFileSync(file, whole.subarray(0, Math.floor(left * PAGE_BYTES)));
    const { signal, output } = readElsewhere(folder);
    t.equal(signal, null, `${left} of ${pages} pages`);
    t.match(output, /data\.mdb was cut short: it has \d+ bytes and .*; restore the folder$/);
  }
  fs.writeFileSync(file, whole);
  t.same(readElsewhere(folder), { signal: null, output: '1000 entries' }, 'intact it opens');
});

await t.test('a file that ends early because its last pages are free is good', async (t) => {
  const { folder, file } = await makeStore(t);
  const store = open(folder);
  // What comes last is removed, and the rest is written anew into pages that are free by then.
  await commit(
    store,
    entries(100, 1000).map(({ key }) => ({ key, value: null })),
  );
  for (let round = 0; round < 4; round += 1) await commit(store, entries(0, 100));
  await store.close();
  const whole = fs.readFileSync(file);
  let pages = whole.length / PAGE_BYTES;
  const refuses = (): boolean => {
    fs.truncateSync(file, (pages - 1) * PAGE_BYTES);
    return readElsewhere(folder).output.includes('cut short');
  };
  const before = pages;
  while (pages > before - 20 && !refuses()) pages -= 1;
  t.ok(pages < before, `${before - pages} pages were not needed`);
  fs.writeFileSync(file, whole.subarray(0, pages * PAGE_BYTES));
  const shorter = open(folder);
  t.equal(shorter.range(key(0), key(2000), 2000).length, 100);
  await commit(shorter, entries(100, 1000));
  await shorter.close();
  t.same(readElsewhere(folder), { signal: null, output: '1000 entries' });
});

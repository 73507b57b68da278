/** The first start dies while it writes its first file: the next one makes the store, and leaves strangers alone. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { realEnv, silentLog } from '@store/core';
import { codeOf } from '@store/core/testing';
import t from 'tap';
import { openFileStore } from './file-store.js';

const env = realEnv(silentLog);

function makeFolder(files: Readonly<Record<string, string>>): string {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'store-early-'));
  t.teardown(() => fs.rmSync(folder, { recursive: true, force: true }));
  for (const [name, text] of Object.entries(files)) fs.writeFileSync(path.join(folder, name), text);
  return folder;
}

async function start(folder: string): Promise<void> {
  const store = await openFileStore(env, folder, { create: true, onFailure: () => undefined });
  await store.close();
}

await t.test('a half-written first file is not somebody else', async (t) => {
  for (const text of ['', 'A store is']) {
    const folder = makeFolder({ 'format.making.new': text });
    await start(folder);
    await start(folder);
    t.ok(fs.existsSync(path.join(folder, 'format')));
  }
});

await t.test('a file of somebody else beside it is left alone', async (t) => {
  const folder = makeFolder({ 'format.making.new': '', 'letter.txt': 'Dear Ada' });
  t.equal(await codeOf(start(folder)), 'E_FORMAT');
  t.equal(fs.readFileSync(path.join(folder, 'letter.txt'), 'utf8'), 'Dear Ada');
  t.notOk(fs.existsSync(path.join(folder, 'data')));
});

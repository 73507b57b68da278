/** The last record of `live` fits only in part: what is appended after it, and answered, is found by recovery. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { spawnSync } from 'node:child_process';
import { OBJECT_KIND, realEnv, silentLog } from '@store/core';
import t from 'tap';
import { headKey } from './format.js';
import { LiveLog, readLive } from './live-log.js';
import { StoredObject } from './stored-object.js';

const needsRoot = { skip: process.getuid?.() !== 0 && 'needs root to mount a small tmpfs' };
const LEFT_BYTES = 16 * 1024;

await t.test('a record that did not fit does not hide those after it', needsRoot, (t) => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'store-torn-'));
  const mount = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'store-test', folder]);
  if (mount.status !== 0) throw new Error(`mount: ${mount.stderr.toString()}`);
  t.teardown(() => {
    spawnSync('umount', [folder]);
    fs.rmdirSync(folder);
  });
  const disk = realEnv(silentLog).openDisk(folder, { create: false });
  const key = Buffer.from('layer_0');
  const head = headKey(1, { high: 1, low: 2 }, key);
  const object = new StoredObject(1, 'layer_0', key, head, OBJECT_KIND.imageData);
  object.create(OBJECT_KIND.imageData, 1);
  const log = new LiveLog(disk, 'boot 1', Buffer.alloc(16), { sequence: 0, switchBytes: 2 ** 20 });
  log.restart();
  log.appendState(object, 0, 1, 1);

  const filler = path.join(folder, 'filler');
  fs.writeFileSync(filler, Buffer.alloc(disk.space().freeBytes - LEFT_BYTES));
  t.throws(() => log.appendParked(object, 1, Buffer.alloc(64 * 1024, 'torn')), {
    name: 'DiskError',
    errno: 'ENOSPC',
  });
  t.equal(disk.space().freeBytes, LEFT_BYTES, 'what of it got there is cut off');
  fs.rmSync(filler);

  log.appendState(object, 2, 1, 1);
  const records = readLive(disk, 'boot 1', 0) ?? [];
  t.same(records.map((record) => (record.type === 'state' ? record.first : -1)), [0, 2]); // prettier-ignore
  log.close();
  disk.close();
  t.end();
});

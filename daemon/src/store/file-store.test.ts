import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { realEnv, silentLog } from '@store/core';
import { objectPoolSuite } from '@store/core/testing';
import t from 'tap';
import { openFileStore } from './file-store.js';

const env = realEnv(silentLog);

void objectPoolSuite(t, 'FileStore on a real folder', () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'store-suite-'));
  t.teardown(() => fs.rmSync(folder, { recursive: true, force: true }));
  const open = (create: boolean) =>
    openFileStore(env, folder, {
      create,
      onFailure: (error) => {
        throw error;
      },
    });
  return open(true).then((store) => ({ store, checked: store, reopen: () => open(false) }));
});

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { BLOCK_BYTES, realEnv, silentLog } from '@store/core';
import t from 'tap';
import type { ObjectPlace } from '../replication/change.js';
import { replicaPoolSuite, type ReplicaPair } from '../replication/replica-pool.suite.js';
import { SimStory } from './crash/sim-story.js';
import { openFileStore, type FileStore } from './file-store.js';
import { slotPosition } from './slot-map.js';

const POOL = 'replicated';

/** Opens the pool in two stores. */
async function pairOf(
  stores: readonly [FileStore, FileStore],
  wait: ReplicaPair['wait'],
): Promise<ReplicaPair> {
  const [ours, theirs] = stores;
  const rot = async (place: ObjectPlace, block: number): Promise<void> => {
    const objects = Array.from(ours.parts.table.objects());
    const object = objects.find((one) => one.placeAs(one.kind).place === place.place);
    if (object === undefined) throw new Error('There is no such object in memory');
    const at = slotPosition(object.slot) + block * BLOCK_BYTES;
    const bytes = Buffer.alloc(512, 'rot');
    await new Promise<void>((resolve) => {
      ours.engine.data.write(at, [bytes], () => resolve());
    });
  };
  return {
    ours: await wait(() => ours.openPool(POOL, { create: true })),
    theirs: await wait(() => theirs.openPool(POOL, { create: true })),
    wait,
    rot,
    close: async () => {
      for (const store of stores) await wait(() => store.close());
    },
  };
}

await replicaPoolSuite(t, 'FilePool on a real folder', async () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'replica-suite-'));
  t.teardown(() => fs.rmSync(folder, { recursive: true, force: true }));
  const open = (name: string): Promise<FileStore> =>
    openFileStore(realEnv(silentLog), path.join(folder, name), {
      create: true,
      onFailure: (error) => {
        throw error;
      },
    });
  return pairOf([await open('ours'), await open('theirs')], (work) => work());
});

await replicaPoolSuite(t, 'FilePool on simulated disks that are short of memory', async () => {
  const worlds = [new SimStory(1), new SimStory(2)] as const;
  // Both live in the same time.
  const wait = async <T>(work: () => Promise<T>): Promise<T> => {
    let isSettled = false;
    const result = work().finally(() => (isSettled = true));
    result.catch(() => undefined);
    const settled = (): boolean => isSettled;
    while (!settled()) {
      for (const world of worlds) world.scheduler.step();
      await new Promise(setImmediate);
    }
    return result;
  };
  const open = async (world: SimStory): Promise<FileStore> => {
    const limits = {
      openObjectsMax: 4,
      cachedObjectsMax: 4,
      openMsMax: 50,
      liveBytesSwitch: 65_536,
    };
    return (await wait(() => world.start({ limits }))).store;
  };
  return pairOf([await open(worlds[0]), await open(worlds[1])], wait);
});

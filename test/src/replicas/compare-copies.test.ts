import { join } from 'node:path';
import {
  BLOCK_BYTES,
  OBJECT_KIND,
  ObjectRef,
  promised,
  realEnv,
  silentLog,
  type StorageMap,
} from '@store/core';
import { engineNameOf, openFileStore } from '@store/daemon';
import t from 'tap';
import { tempFolder } from '../host/temp-folder.js';
import { writeSectorTag } from '../tagged-writer/sector-tag.js';
import { compareCopies } from './compare-copies.js';

const CLUSTER = 'c'.repeat(32);
const REF = new ObjectRef(OBJECT_KIND.imageData, 'layer_0', 'family_0');

/** A block of tagged sectors: all of those have the same CRC-32C. */
function tagged(version: number): Buffer {
  const block = Buffer.alloc(BLOCK_BYTES);
  for (let at = 0; at < BLOCK_BYTES; at += 512)
    writeSectorTag(block.subarray(at, at + 512), at / 512, version);
  return block;
}

/** Makes the folder of a daemon with one object. @returns Its disk id */
async function makeDisk(folder: string, content: Buffer): Promise<string> {
  const store = await openFileStore(realEnv(silentLog), folder, {
    create: true,
    onFailure: (error) => {
      throw error;
    },
  });
  const pool = await store.openPool(engineNameOf(CLUSTER, 1), { create: true });
  pool.announceTo({
    nextVersion: () => 7,
    changed: () => undefined,
    notMade: () => undefined,
  });
  await promised((done) => pool.write(REF, 0, [content], 0, done));
  await store.close();
  return store.diskId.toString('hex');
}

t.test('copies that differ in one byte are told apart, whatever their checksums', async (t) => {
  const folder = tempFolder(t);
  const folders = ['one', 'two', 'three'].map((name) => join(folder, name));
  const contents = [tagged(1), tagged(1), tagged(2)];
  const disks = await Promise.all(
    folders.map((one, index) => makeDisk(one, contents[index] ?? Buffer.alloc(BLOCK_BYTES))),
  );
  const mapWith = (members: readonly number[]): StorageMap => ({
    clusterId: CLUSTER,
    version: 1,
    daemons: disks.map((diskId, index) => ({
      ...{ id: index + 1, diskId, startId: 's', address: '', peerAddress: null },
      ...{ host: '', rack: '', weight: 1, membership: 'in' },
    })),
    pools: [
      {
        ...{ id: 1, name: 'pool', replicas: 2, minReplicas: 1, objectBytes: 4194304 },
        ...{ failureDomain: 'disk', durability: 'flush' },
        groups: [
          {
            ...{ epoch: 1, hasPrimary: true, lostAt: 0, givenUpAt: 0 },
            members: members.map((daemon) => ({ daemon, inSync: 's' })),
          },
        ],
      },
    ],
    blockedClients: [],
    blockedTickets: [],
  });
  t.same(await compareCopies(mapWith([1, 2]), folders), { objects: 1, differences: [] });
  const found = await compareCopies(mapWith([1, 3]), folders);
  t.match(found.differences, [/group pool\/0 object .*layer_0: daemon 1 has .*, daemon 3 has/]);
  t.equal(found.differences.length, 1);
  const missing = await compareCopies(mapWith([1, 2]), folders.slice(0, 1));
  t.match(missing.differences, [/copy at 2, not looked at/]);
});

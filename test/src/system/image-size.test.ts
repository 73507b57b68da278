// Images are thin: the size of an image costs nothing, what is filled takes space, what is discarded gives it back.
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import { diskUsage } from '../host/disk-usage.js';
import { residentBytes } from '../host/process-memory.js';
import { tempFolder } from '../host/temp-folder.js';
import { waitUntil } from '../host/wait-until.js';
import { NbdClient } from '../nbd-client/nbd-client.js';
import { runProgramWell } from '../server/store-programs.js';
import { StoreServer } from '../server/store-server.js';

t.setTimeout(600_000);

const MIB = 1024 ** 2;
const GIB = 1024 ** 3;
const TIB = 1024 ** 4;

interface Cost {
  readonly createMs: number;
  readonly openMs: number;
  readonly diskBytes: number;
  readonly memoryBytes: number;
}

/** Creates an image in a new folder, opens it, reads both ends, and measures. */
async function costOf(t: Test, bytes: number): Promise<Cost> {
  const folder = tempFolder(t);
  const dir = join(folder, 'data');
  const startedMs = performance.now();
  await runProgramWell('store-image', [
    ...['create', '--dir', dir, '--pool', 'testpool', '--image', 'vm1', '--size', `${bytes}`],
  ]);
  const createdMs = performance.now();
  const socket = join(folder, 'nbd.sock');
  const server = await StoreServer.start(t, { dir, image: 'vm1', socket });
  const client = await NbdClient.connect(server.uri);
  t.equal(client.facts.bytes, bytes);
  for (const offset of [0, bytes - 4096])
    t.same(await client.read(offset, 4096), { error: 0, data: Buffer.alloc(4096) });
  const openedMs = performance.now();
  await client.disconnect();
  const memoryBytes = residentBytes(server.pid);
  await server.stop();
  return {
    createMs: createdMs - startedMs,
    openMs: openedMs - createdMs,
    diskBytes: diskUsage(dir),
    memoryBytes,
  };
}

/** Of three: whatever else the machine does costs one of them time. */
async function leastOf(t: Test, bytes: number): Promise<Cost> {
  const costs = [await costOf(t, bytes), await costOf(t, bytes), await costOf(t, bytes)];
  const least = (what: keyof Cost): number => Math.min(...costs.map((cost) => cost[what]));
  return {
    createMs: least('createMs'),
    openMs: least('openMs'),
    diskBytes: least('diskBytes'),
    memoryBytes: least('memoryBytes'),
  };
}

t.test('an image of 1 TiB costs no more to create and open than one of 1 GiB', async (t) => {
  await costOf(t, GIB); // the first run also fills the page cache with the programs
  const small = await leastOf(t, GIB);
  const large = await leastOf(t, TIB);
  t.ok(large.diskBytes < MIB, `an empty image of 1 TiB takes ${large.diskBytes} bytes`);
  t.ok(large.diskBytes <= small.diskBytes + 65_536, `1 GiB takes ${small.diskBytes} bytes`);
  t.ok(large.createMs < 3 * small.createMs + 500, `created in ${large.createMs} ms`);
  t.ok(large.openMs < 3 * small.openMs + 500, `opened in ${large.openMs} ms`);
  t.ok(large.memoryBytes < small.memoryBytes + 32 * MIB, `${large.memoryBytes} bytes of memory`);
});

t.test('discarding a filled GiB gives the space back, and it reads as zeros', async (t) => {
  const folder = tempFolder(t);
  const dir = join(folder, 'data');
  const options = { dir, image: 'vm1', socket: join(folder, 'nbd.sock'), createBytes: TIB };
  const first = await StoreServer.start(t, options);
  let client = await NbdClient.connect(first.uri);
  const before = diskUsage(dir);
  const start = TIB / 2 + 5 * MIB;
  const payload = randomBytes(MIB);
  for (let at = 0; at < GIB; at += 8 * MIB) {
    const writes = Array.from({ length: 8 }, (_, index) =>
      client.write(start + at + index * MIB, payload),
    );
    for (const { error } of await Promise.all(writes)) if (error !== 0) t.fail(`write: ${error}`);
  }
  t.equal((await client.flush()).error, 0);
  const filled = diskUsage(dir);
  t.ok(filled - before >= GIB, `filling takes ${filled - before} bytes`);
  t.ok(filled - before < 1.05 * GIB, 'and little more');
  t.equal((await client.trim(start, GIB)).error, 0);
  t.equal((await client.flush()).error, 0);
  await waitUntil('the space to come back', 20_000, () => diskUsage(dir) < before + 16 * MIB);
  await client.disconnect();
  await first.stop();

  const second = await StoreServer.start(t, options);
  client = await NbdClient.connect(second.uri);
  for (const at of [0, 300 * MIB, GIB - MIB])
    t.same((await client.read(start + at, MIB)).data, Buffer.alloc(MIB));
  t.ok(diskUsage(dir) < before + 16 * MIB, 'also after a restart');
  await client.disconnect();
  await second.stop();
});

// Two servers on one image of a cluster: the second one takes it, and from then on nothing that the first one still sends
// is made, whatever became of it in between. Its clients hear errors, not silence.
import t from 'tap';
import type { Test } from 'tap';
import { waitUntil } from '../host/wait-until.js';
import { NbdClient } from '../nbd-client/nbd-client.js';
import { ProcessCluster, TEST_POOL } from '../server/process-cluster.js';
import { runProgram } from '../server/store-programs.js';
import { StoreServer } from '../server/store-server.js';

t.setTimeout(600_000);

const MIB = 1024 ** 2;
const ESHUTDOWN = 108;
const BLOCK = 4096;
const BLOCKS = 256;

function served(t: Test, cluster: ProcessCluster, ...more: string[]): Promise<StoreServer> {
  return StoreServer.start(t, { image: 'vm1', args: [...cluster.flags, ...more] });
}

/** Blocks lie 64 KiB apart, in all objects of the image. */
async function writeAll(client: NbdClient, byte: number): Promise<number[]> {
  const writes = Array.from({ length: BLOCKS }, (_, index) =>
    client.write(index * 16 * BLOCK, Buffer.alloc(BLOCK, byte), 0),
  );
  return (await Promise.all(writes)).map(({ error }) => error);
}

async function bytesSeen(client: NbdClient): Promise<Set<number>> {
  const seen = new Set<number>();
  for (let index = 0; index < BLOCKS; index += 1) {
    const { error, data } = await client.read(index * 16 * BLOCK, BLOCK);
    if (error !== 0) throw new Error(`a read failed with ${error}`);
    for (const byte of data) seen.add(byte);
  }
  return seen;
}

t.test('who takes an image with --force has it alone', async (t) => {
  const cluster = await ProcessCluster.start(t, 3, { pool: ['--groups', '16'] });
  await cluster.healthy(60_000);
  await cluster.image('create', 'vm1', '--size', '16M');
  const first = await served(t, cluster, '--owner', 'alpha');
  const old = await NbdClient.connect(first.uri);
  t.same(new Set(await writeAll(old, 0xaa)), new Set([0]));

  t.match(await cluster.image('info', 'vm1'), /writer +alpha, as 'vm1', since 20/);
  const refused = await runProgram('store-nbd', [
    ...['--pool', TEST_POOL, '--image', 'vm1', '--port', '0', '--owner', 'beta', ...cluster.flags],
  ]);
  t.equal(refused.code, 1, 'another one does not get it just so');
  t.match(refused.stderr, /host alpha.*since 20.*--force/s, 'and hears who has it');
  t.same(new Set(await writeAll(old, 0xab)), new Set([0]), 'the first one has not noticed');
  const reader = await served(t, cluster, '--owner', 'beta', '--read-only');
  t.same(await bytesSeen(await NbdClient.connect(reader.uri)), new Set([0xab]), 'all may read');
  await reader.stop();

  // It is stopped in the middle of things, and goes on after it was replaced.
  const writing = writeAll(old, 0xac);
  process.kill(first.pid, 'SIGSTOP');
  const second = await served(t, cluster, '--owner', 'beta', '--force');
  const now = await NbdClient.connect(second.uri);
  t.same(new Set(await writeAll(now, 0xbb)), new Set([0]));
  t.equal((await now.flush()).error, 0);
  process.kill(first.pid, 'SIGCONT');
  const late = await writing;
  t.ok(
    late.every((error) => error === 0 || error === ESHUTDOWN),
    'what was under way was written before, or refused',
  );
  t.same(new Set(await writeAll(old, 0xad)), new Set([ESHUTDOWN]), 'nothing of it is made later');
  t.equal((await old.flush()).error, ESHUTDOWN, 'a flush says so as well');
  t.equal((await old.read(0, BLOCK)).error, ESHUTDOWN, 'and nothing more is read');
  t.same(await bytesSeen(now), new Set([0xbb]), 'only the second one has written since');
  t.equal(first.log.split('was taken by another server').length, 2, 'it is said once');
  await old.disconnect();
  await t.rejects(NbdClient.connect(first.uri), 'it does not take the image back by itself');

  await now.disconnect();
  await second.stop();
  t.notMatch(second.log, /still marked/, 'the role is given back');
  const third = await served(t, cluster, '--owner', 'gamma');
  const free = await NbdClient.connect(third.uri);
  t.same(await bytesSeen(free), new Set([0xbb]), 'who is third needs no force then');
  await free.disconnect();
  await first.stop();
  await third.stop();
  await cluster.stop();
});

t.test('a server that was killed is there again at once; daemons die meanwhile', async (t) => {
  const cluster = await ProcessCluster.start(t, 3, { pool: ['--groups', '16'] });
  await cluster.healthy(60_000);
  await cluster.image('create', 'vm1', '--size', '16M');
  let byte = 1;
  for (const number of [1, 2]) {
    const server = await served(t, cluster);
    const client = await NbdClient.connect(server.uri);
    t.same(new Set(await writeAll(client, byte)), new Set([0]));
    await server.kill9();
    // The guards are with all members: whoever leads next knows them.
    await cluster.daemon(number).kill9();
    const again = await served(t, cluster);
    const other = await NbdClient.connect(again.uri);
    t.same(await bytesSeen(other), new Set([byte]), 'what was answered is there');
    await cluster.daemon(number).startAgain();
    byte += 1;
    t.same(new Set(await writeAll(other, byte)), new Set([0]));
    await again.kill9();
    await cluster.healthy(60_000);
  }
  const last = await served(t, cluster);
  const client = await NbdClient.connect(last.uri);
  await cluster.image('resize', 'vm1', '--size', '20M');
  const taken = { message: /serves it as 'vm1'.*--force/ };
  await t.rejects(cluster.image('resize', 'vm1', '--size', '10M', '--shrink'), taken);
  await t.rejects(cluster.image('rm', 'vm1'), taken);
  t.same((await client.write(0, Buffer.alloc(BLOCK, 0x77), 0)).error, 0, 'it goes on writing');
  await cluster.image('resize', 'vm1', '--size', '10M', '--shrink', '--force');
  t.equal((await client.write(0, Buffer.alloc(BLOCK, 0x78), 0)).error, ESHUTDOWN);
  await cluster.image('rm', 'vm1');
  await waitUntil('the objects to be gone', 20_000, async () => {
    const { pools } = await cluster.status();
    return (pools[0]?.usedBytes ?? Infinity) < MIB;
  });
  t.same(JSON.parse(await cluster.store('ls', '--pool', TEST_POOL, '--json')), []);
  await client.disconnect();
  await last.stop();
  await cluster.stop();
});

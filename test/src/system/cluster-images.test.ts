// Images whose objects are spread over four daemons, all of them real processes: they are made, written, resized and
// removed as anywhere, other people's programs find in them what they wrote, and each daemon holds its part.
import t from 'tap';
import type { Test } from 'tap';
import { run } from '../host/command.js';
import { LoopDisk } from '../host/loop-disk.js';
import { hashTree, realFolders } from '../host/real-files.js';
import { needs } from '../host/requirements.js';
import { tempFolder } from '../host/temp-folder.js';
import { waitUntil } from '../host/wait-until.js';
import { NbdClient } from '../nbd-client/nbd-client.js';
import { ProcessCluster, TEST_POOL } from '../server/process-cluster.js';
import { runProgram, runProgramWell } from '../server/store-programs.js';
import { StoreServer } from '../server/store-server.js';
import { testSeed } from '../tagged-writer/seeded-random.js';

t.setTimeout(600_000);

const seed = testSeed();
t.comment(`replay: STORE_SEED=${seed} node test/dist/system/cluster-images.test.js`);

const MIB = 1024 ** 2;
const OBJECT_BYTES = 4 * MIB;
const DAEMONS = 4;

async function served(
  t: Test,
  cluster: ProcessCluster,
  image: string,
  createBytes?: number,
): Promise<StoreServer> {
  const args = [...cluster.flags];
  return StoreServer.start(
    t,
    createBytes === undefined ? { image, args } : { image, createBytes, args },
  );
}

/** What byte of the device holds what: a different byte for each object, and none of them zero. */
function patternOf(object: number): Buffer {
  return Buffer.alloc(64 * 1024, 1 + (object % 255));
}

t.test('images live in a cluster as they do anywhere', async (t) => {
  const cluster = await ProcessCluster.start(t, DAEMONS);
  await cluster.image('create', 'vm1', '--size', '200M');
  await cluster.image('create', 'vm2', '--size', '3G');
  t.match(await cluster.image('ls'), /vm1[\s\S]*vm2/);
  await writesPatterns(t, cluster, 200 * MIB);
  await isSpread(t, cluster);
  await cluster.image('resize', 'vm1', '--size', '240M');
  t.match(JSON.parse(await cluster.image('info', 'vm1', '--json')), { size: 240 * MIB });
  await cluster.image('resize', 'vm1', '--size', '50M', '--shrink');
  await cluster.image('resize', 'vm1', '--size', '200M');
  await readsAfterShrinking(t, cluster);
  await cluster.image('rm', 'vm1');
  t.notMatch(await cluster.image('ls'), /vm1/);
  const gone = await runProgram('store-image', [
    ...['info', 'vm1', '--pool', TEST_POOL, ...cluster.flags],
  ]);
  t.equal(gone.code, 1);
  t.match(gone.stderr, /vm1/, 'what is gone is named');
  await waitUntil('the objects to be gone', 20_000, async () => {
    const { pools } = await cluster.status();
    return (pools[0]?.usedBytes ?? Infinity) < MIB;
  });
  await cluster.stop();
});

async function writesPatterns(t: Test, cluster: ProcessCluster, bytes: number): Promise<void> {
  const server = await served(t, cluster, 'vm1');
  const client = await NbdClient.connect(server.uri);
  const objects = bytes / OBJECT_BYTES;
  for (let object = 0; object < objects; object += 1) {
    const pattern = patternOf(object);
    const { error } = await client.write(object * OBJECT_BYTES, pattern, 0);
    if (error !== 0) return void t.equal(error, 0, `object ${object} is written`);
  }
  t.equal((await client.flush()).error, 0);
  for (let object = 0; object < objects; object += 1) {
    const { data } = await client.read(object * OBJECT_BYTES, 64 * 1024);
    if (!data.equals(patternOf(object))) return void t.fail(`object ${object} is wrong`);
  }
  await client.disconnect();
  await server.stop();
}

/** What lay behind the end reads as zeros, what lay before it is there. */
async function readsAfterShrinking(t: Test, cluster: ProcessCluster): Promise<void> {
  const server = await served(t, cluster, 'vm1');
  const client = await NbdClient.connect(server.uri);
  const wrong: number[] = [];
  for (let object = 0; object < 50; object += 1) {
    const { data } = await client.read(object * OBJECT_BYTES, 64 * 1024);
    const wanted = object * OBJECT_BYTES < 50 * MIB ? patternOf(object) : Buffer.alloc(64 * 1024);
    if (!data.equals(wanted)) wrong.push(object);
  }
  t.same(wrong, [], 'all objects hold what they should');
  await client.disconnect();
  await server.stop();
}

/** Each daemon holds objects, and the master knows. */
async function isSpread(t: Test, cluster: ProcessCluster): Promise<void> {
  let used: readonly number[] = [];
  await waitUntil('all daemons to report objects', 20_000, async () => {
    used = (await cluster.status()).daemons.map(({ usedBytes }) => usedBytes);
    return used.length === DAEMONS && used.every((bytes) => bytes > 0);
  });
  t.comment(`bytes of objects at the daemons: ${used.join(', ')}`);
}

/** Stops all of it. All objects in the folders are good. @returns How many each holds */
async function soundObjects(t: Test, cluster: ProcessCluster): Promise<number[]> {
  await cluster.stop();
  const numbers = Array.from({ length: DAEMONS }, (_, index) => index + 1);
  const counts = numbers.map(async (number) => {
    const dir = cluster.dataOf(number);
    const text = await runProgramWell('store', ['check', '--json', '--dir', dir]);
    const found = JSON.parse(text) as { objects: number; damage: unknown[] };
    t.same(found.damage, [], `none of the ${found.objects} objects of disk ${number} is damaged`);
    return found.objects;
  });
  return Promise.all(counts);
}

t.test('fio finds in a spread image what it wrote', needs({ commands: ['fio'] }), async (t) => {
  // That copies are equal is shown elsewhere; here each disk is looked at for itself.
  const cluster = await ProcessCluster.start(t, DAEMONS, {
    pool: ['--groups', '64', '--replicas', '1'],
  });
  const server = await served(t, cluster, 'fio', 256 * MIB);
  await run(
    'fio',
    [
      ...['--name=verify', '--ioengine=nbd', `--uri=${server.uri}`, '--thread'],
      ...['--rw=randwrite', '--bsrange=4k-64k', '--iodepth=16', '--size=192M', '--io_size=64M'],
      ...['--verify=crc32c', '--verify_fatal=1', '--do_verify=1', `--randseed=${seed}`],
    ],
    { limitMs: 80_000, cwd: tempFolder(t) }, // fio leaves its state in the current folder
  );
  await isSpread(t, cluster);
  await server.stop();
  const counts = await soundObjects(t, cluster);
  t.ok(
    counts.every((count) => count > 0),
    'each disk holds some',
  );
});

t.test(
  'ext4 keeps real files over a restart of store-nbd and of all daemons',
  needs({
    root: true,
    fuse: true,
    commands: ['nbdfuse', 'losetup', 'mkfs.ext4', 'fusermount3'],
  }),
  async (t) => {
    const cluster = await ProcessCluster.start(t, DAEMONS);
    const first = await served(t, cluster, 'ext4', 1024 * MIB);
    let disk = await LoopDisk.attach(t, first.uri);
    await run('mkfs.ext4', ['-q', '-F', disk.device]);
    await disk.mount();
    await run('cp', ['-a', ...realFolders, disk.mountPoint]);
    const written = hashTree(disk.mountPoint);
    t.ok(written.length > 300, `${written.length} files`);
    await disk.unmount();
    await disk.detach();
    await first.stop();
    const restarts = cluster.daemons.map(async (daemon) => {
      await daemon.stop();
      await daemon.startAgain();
    });
    await Promise.all(restarts);

    const second = await served(t, cluster, 'ext4');
    disk = await LoopDisk.attach(t, second.uri);
    await t.resolves(run('e2fsck', ['-f', '-n', disk.device]), 'the check finds nothing');
    await disk.mount();
    t.same(hashTree(disk.mountPoint), written, 'all files are as they were');
    await disk.unmount();
    await disk.detach();
    await second.stop();
    await soundObjects(t, cluster);
  },
);

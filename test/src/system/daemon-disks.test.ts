// Images of a daemon hold what was written to them as block devices, whatever way store-nbd reaches it: fio verifies, copies
// come back, and ext4 keeps files.
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import { run } from '../host/command.js';
import { LoopDisk } from '../host/loop-disk.js';
import { realFolders } from '../host/real-files.js';
import { needs } from '../host/requirements.js';
import { tempFolder } from '../host/temp-folder.js';
import { DAEMON_WAYS, reachDaemon, type ReachedDaemon } from '../server/daemon-way.js';
import { StoreServer } from '../server/store-server.js';
import { testSeed } from '../tagged-writer/seeded-random.js';

t.setTimeout(600_000);

const seed = testSeed();
t.comment(`replay: STORE_SEED=${seed} node test/dist/system/daemon-disks.test.js`);

const MIB = 1024 ** 2;
const FILES = realFolders.at(-1) ?? '';

for (const way of DAEMON_WAYS)
  t.test(
    `disks of a daemon, over ${way.name}`,
    needs({
      root: true,
      fuse: true,
      commands: ['fio', 'nbdcopy', 'nbdfuse', 'losetup', 'mkfs.ext4', 'fusermount3'],
    }),
    async (t) => {
      const reached = await reachDaemon(t, way, seed);
      const size = way.datagrams === null ? 16 * MIB : 4 * MIB;
      await fioVerifies(t, reached, size);
      await copiesComeBack(t, reached);
      await ext4KeepsFiles(t, reached);
      const { proxy, daemon } = reached;
      if (proxy !== null) {
        const { dropped, duplicated, delayed } = proxy.datagrams.tally;
        const seen = `${dropped} lost, ${duplicated} doubled, ${delayed} delayed`;
        t.ok(dropped > 100 && duplicated > 100 && delayed > 100, seen);
      }
      await daemon.stop();
    },
  );

function serve(
  t: Test,
  { flags }: ReachedDaemon,
  image: string,
  createBytes: number,
): Promise<StoreServer> {
  const socket = join(tempFolder(t), 'nbd.sock');
  return StoreServer.start(t, { image, createBytes, socket, args: flags });
}

async function fioVerifies(t: Test, reached: ReachedDaemon, bytes: number): Promise<void> {
  const server = await serve(t, reached, 'fio', 64 * MIB);
  const folder = tempFolder(t);
  const jobs = {
    '4 KiB at random': ['--rw=randwrite', '--bs=4k', '--iodepth=16'],
    'mixed sizes and directions': [
      ...['--rw=randrw', '--bsrange=512-64k', '--bs_unaligned=1', '--blockalign=512'],
      ...['--iodepth=8', '--fsync=64', '--norandommap=0'],
    ],
  };
  for (const [title, job] of Object.entries(jobs)) {
    const startedMs = performance.now();
    await run(
      'fio',
      [
        ...['--name=verify', '--ioengine=nbd', `--uri=${server.uri}`, '--thread'],
        ...['--verify=crc32c', '--verify_fatal=1', '--do_verify=1', `--randseed=${seed}`],
        ...[`--size=${bytes}`, ...job],
      ],
      { limitMs: 60_000, cwd: folder }, // fio leaves its state in the current folder
    );
    t.pass(`fio verified ${title} in ${Math.round(performance.now() - startedMs)} ms`);
  }
  await server.stop();
}

async function copiesComeBack(t: Test, reached: ReachedDaemon): Promise<void> {
  const bytes = 32 * MIB;
  const server = await serve(t, reached, 'copy', bytes);
  const folder = tempFolder(t);
  const content = Buffer.alloc(bytes);
  randomBytes(bytes / 4).copy(content, MIB + 777);
  randomBytes(10_000).copy(content, bytes - 10_000);
  writeFileSync(join(folder, 'in.raw'), content);
  await run('nbdcopy', ['--flush', '--connections=4', join(folder, 'in.raw'), server.uri]);
  await run('nbdcopy', ['--connections=4', server.uri, join(folder, 'out.raw')]);
  t.ok(readFileSync(join(folder, 'out.raw')).equals(content), 'a copy comes back as it went in');
  await server.stop();
}

async function ext4KeepsFiles(t: Test, reached: ReachedDaemon): Promise<void> {
  const first = await serve(t, reached, 'ext4', 256 * MIB);
  let disk = await LoopDisk.attach(t, first.uri);
  await run('mkfs.ext4', ['-q', '-F', disk.device]);
  await disk.mount();
  await run('cp', ['-a', FILES, disk.mountPoint]);
  const written = await hashes(disk.mountPoint);
  t.ok(written.length > 100, `${written.length} files`);
  await disk.unmount();
  await disk.detach();
  await first.stop();

  const second = await serve(t, reached, 'ext4', 256 * MIB);
  disk = await LoopDisk.attach(t, second.uri);
  await run('e2fsck', ['-f', '-n', disk.device]);
  await disk.mount();
  t.same(
    await hashes(disk.mountPoint),
    written,
    'the files are there after store-nbd started again',
  );
  await disk.unmount();
  await disk.detach();
  await second.stop();
}

/** By another process: this one carries the bytes from the daemon, and must not wait for them. */
async function hashes(folder: string): Promise<string[]> {
  const lines = await run('bash', ['-c', 'find . -type f -print0 | sort -z | xargs -0 sha256sum'], {
    cwd: folder,
    limitMs: 30_000,
  });
  return lines.trimEnd().split('\n');
}

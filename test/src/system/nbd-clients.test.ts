// Clients people use (fio, qemu-io, qemu-img, nbdcopy, nbdinfo) write and read back what they wrote.
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import { run, runAnyway } from '../host/command.js';
import { needs } from '../host/requirements.js';
import { tempFolder } from '../host/temp-folder.js';
import { StoreServer } from '../server/store-server.js';

t.setTimeout(600_000);

const MIB = 1024 ** 2;

async function startServer(t: Test, bytes: number, tcp = false): Promise<StoreServer> {
  const folder = tempFolder(t);
  const where = tcp ? {} : { socket: join(folder, 'nbd.sock') };
  const dir = join(folder, 'data');
  return StoreServer.start(t, { dir, image: 'vm1', createBytes: bytes, ...where });
}

/** The part of fio's report we look at. */
interface FioReport {
  readonly jobs: readonly Record<'read' | 'write', { io_bytes: number }>[];
}

/** fio may print a line or two before its JSON. */
function parseFioReport(text: string): FioReport {
  return JSON.parse(text.slice(text.indexOf('{'))) as FioReport; // what fio documents
}

const FIO_JOBS: Readonly<Record<string, readonly string[]>> = {
  '4 KiB at random, 32 deep': ['--rw=randwrite', '--bs=4k', '--iodepth=32', '--size=48M'],
  '64 KiB, with fsync': ['--rw=write', '--bs=64k', '--iodepth=8', '--size=64M', '--fsync=16'],
  '1 MiB': ['--rw=write', '--bs=1M', '--iodepth=4', '--size=256M'],
  'mixed sizes and directions, with fsync': [
    ...['--rw=randrw', '--bsrange=512-128k', '--bs_unaligned=1', '--blockalign=512'],
    ...['--iodepth=16', '--size=64M', '--fsync=64', '--norandommap=0'],
  ],
};

for (const [title, job] of Object.entries(FIO_JOBS)) {
  t.test(`fio verifies what it wrote: ${title}`, needs({ commands: ['fio'] }), async (t) => {
    const server = await startServer(t, 256 * MIB);
    const folder = tempFolder(t);
    const report = join(folder, 'fio.json');
    await run(
      'fio',
      [
        ...['--name=verify', '--ioengine=nbd', `--uri=${server.uri}`, '--thread'],
        ...['--verify=crc32c', '--verify_fatal=1', '--do_verify=1', '--randseed=7'],
        ...['--output-format=json', `--output=${report}`, ...job],
      ],
      { limitMs: 120_000, cwd: folder }, // fio leaves its state in the current folder
    );
    const { jobs } = parseFioReport(readFileSync(report, 'utf8'));
    const [reported] = jobs;
    if (reported === undefined) throw new Error('fio reported no job');
    const { read, write } = reported;
    t.ok(write.io_bytes > 0 && read.io_bytes >= write.io_bytes, 'it read all it wrote');
    await server.stop();
  });
}

t.test(
  'qemu-io finds its patterns, also after a restart',
  needs({ commands: ['qemu-io'] }),
  async (t) => {
    const folder = tempFolder(t);
    const options = {
      dir: join(folder, 'data'),
      image: 'vm1',
      socket: join(folder, 'nbd.sock'),
      createBytes: 64 * MIB,
    };
    const qemuIo = async (...commands: string[]): Promise<void> => {
      const args = commands.flatMap((command) => ['-c', command]);
      const { code, stdout, stderr } = await runAnyway('qemu-io', ['-f', 'raw', ...args, uri]);
      t.equal(code, 0, `${commands.join('; ')}\n${stderr}`);
      t.notMatch(stdout, /failed|error/i);
    };
    const first = await StoreServer.start(t, options);
    let { uri } = first;
    await qemuIo(
      'write -P 0x11 0 8M',
      'write -P 0x22 1M 64k',
      'write -P 0x33 3145000 5000', // over the border of two blocks, aligned to nothing
      'write -z 5M 1M',
      'discard 4M 512k',
      'write -P 0x44 4190208 8192', // over the border of two objects
      'flush',
    );
    const expected = [
      'read -P 0x11 0 1M',
      'read -P 0x22 1M 64k',
      'read -P 0x33 3145000 5000',
      'read -P 0x11 3150000 40208',
      'read -P 0x44 4190208 8192',
      'read -P 0 4198400 520192',
      'read -P 0 5M 1M',
      'read -P 0x11 6M 2M',
      'read -P 0 8M 56M',
    ];
    await qemuIo(...expected);
    await first.stop();
    const second = await StoreServer.start(t, options);
    ({ uri } = second);
    await qemuIo(...expected);
    await second.stop();
  },
);

/** A file with data of every kind: random, zeros, repeated. */
function makeFile(path: string, bytes: number): Buffer {
  const content = Buffer.alloc(bytes);
  randomBytes(bytes / 4).copy(content, 0);
  content.fill('store', bytes / 2, bytes / 2 + bytes / 8);
  randomBytes(10_000).copy(content, bytes - 10_000);
  writeFileSync(path, content);
  return content;
}

t.test(
  'nbdcopy copies a file in and out unchanged',
  needs({ commands: ['nbdcopy'] }),
  async (t) => {
    const server = await startServer(t, 64 * MIB);
    const folder = tempFolder(t);
    const content = makeFile(join(folder, 'in.raw'), 64 * MIB);
    await run('nbdcopy', ['--flush', '--connections=4', join(folder, 'in.raw'), server.uri]);
    await run('nbdcopy', ['--connections=4', server.uri, join(folder, 'out.raw')]);
    t.ok(readFileSync(join(folder, 'out.raw')).equals(content));
    await server.stop();
  },
);

t.test(
  'qemu-img converts in and out and compares equal, over TCP',
  needs({ commands: ['qemu-img'] }),
  async (t) => {
    const server = await startServer(t, 64 * MIB, true);
    const folder = tempFolder(t);
    const content = makeFile(join(folder, 'in.raw'), 64 * MIB);
    await run('qemu-img', [
      'convert',
      '-n',
      '-f',
      'raw',
      '-O',
      'raw',
      join(folder, 'in.raw'),
      server.uri,
    ]);
    await run('qemu-img', [
      'compare',
      '-f',
      'raw',
      '-F',
      'raw',
      join(folder, 'in.raw'),
      server.uri,
    ]);
    await run('qemu-img', [
      'convert',
      '-f',
      'raw',
      '-O',
      'raw',
      server.uri,
      join(folder, 'out.raw'),
    ]);
    t.ok(readFileSync(join(folder, 'out.raw')).equals(content));
    await server.stop();
  },
);

t.test(
  'nbdinfo shows size and capabilities, over TCP',
  needs({ commands: ['nbdinfo'] }),
  async (t) => {
    const server = await startServer(t, 100 * MIB, true);
    const info = JSON.parse(await run('nbdinfo', ['--json', server.uri])) as {
      protocol: string;
      exports: Record<string, unknown>[];
    }; // the part of nbdinfo's report we look at
    t.equal(info.protocol, 'newstyle-fixed');
    t.match(info.exports[0], {
      'export-size': 100 * MIB,
      is_read_only: false,
      can_flush: true,
      can_fua: true,
      can_trim: true,
      can_zero: true,
    });
    const list = JSON.parse(await run('nbdinfo', ['--list', '--json', server.uri])) as {
      exports: Record<string, unknown>[];
    }; // as above
    t.ok(list.exports.length > 0, 'the image is listed');
    await server.stop();
  },
);

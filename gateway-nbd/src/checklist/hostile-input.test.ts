// Every length and offset at its limits, against a server in a process of its own whose memory is measured.
import { fork } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { NBD_CMD, NBD_OPT, NBD_REP } from '../protocol/constants.js';
import { FUZZ_DISK_BYTES } from '../testing/fuzz-server.js';
import { exportRequest, option, RawClient } from '../testing/raw-client.js';
import { FORMATS, Session } from '../testing/session.js';
import { contextRequest, fields, sized } from '../testing/wire.js';

const { READ, WRITE, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS } = NBD_CMD;
const { EXPORT_NAME, INFO, GO, LIST_META_CONTEXT, SET_META_CONTEXT, STRUCTURED_REPLY } = NBD_OPT;
const MIB = 2 ** 20;
const GROWTH_BYTES_MAX = 4 * MIB;
/** Before memory is measured, the same is done this often, so that code and caches are where they stay. */
const WARM_UP_ROUNDS = 4;

t.setTimeout(360_000);

interface Target {
  readonly path: string;
  residentBytes(): number;
}

async function startTarget(t: Test): Promise<Target> {
  const folder = mkdtempSync(join(tmpdir(), 'nbd-hostile-'));
  const path = join(folder, 'nbd.sock');
  const program = fileURLToPath(new URL('../testing/fuzz-server.js', import.meta.url));
  const server = fork(program, [path]);
  t.teardown(() => {
    server.kill('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  });
  await new Promise((resolve) => server.once('message', resolve));
  return {
    path,
    residentBytes: () => {
      const status = readFileSync(`/proc/${server.pid ?? 0}/status`, 'utf8');
      return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) * 1024;
    },
  };
}

/** Runs `round` until everything is warm, then once more: the server's memory must not follow. */
async function checkMemory(t: Test, target: Target, round: () => Promise<void>): Promise<void> {
  for (let count = 0; count < WARM_UP_ROUNDS; count += 1) await round();
  const before = target.residentBytes();
  await round();
  const grown = target.residentBytes() - before;
  t.ok(grown < GROWTH_BYTES_MAX, `grew by ${Math.round(grown / 1024)} KiB`);
  const good = await RawClient.go(target, 'good');
  t.equal(await good.ask({ type: FLUSH, cookie: 1 }), 0, 'and others are served');
  good.close();
}

/** The option with `length` in its header, and only a little data behind it. */
function announced(number: number, length: number, data = Buffer.alloc(0)): Buffer {
  return Buffer.concat([option(number).subarray(0, 12), fields([length, 4]), data]);
}

const OPTION_LENGTHS = [0, 1, 65_536, 65_537, MIB, MIB + 1, 2 ** 31 - 1, 2 ** 31, 0xffffffff];

t.test(
  'F28: whatever length an option announces, it is answered or the client cut off',
  async (t) => {
    const target = await startTarget(t);
    await checkMemory(t, target, async () => {
      for (const length of OPTION_LENGTHS)
        for (const number of [EXPORT_NAME, GO, SET_META_CONTEXT, 77]) {
          const client = await RawClient.greeted(target);
          client.send(announced(number, length, Buffer.alloc(Math.min(length, 9))));
          const isCut = length > (number === EXPORT_NAME ? 4096 : MIB);
          if (isCut) t.equal((await client.rest()).length, 0, `option ${number}, ${length}`);
          client.close();
        }
    });
  },
);

t.test(
  'F28, CVE-2022-26495, CVE-2022-26496, W2: lengths inside an option that lie are INVALID',
  async (t) => {
    const target = await startTarget(t);
    const lengths = [0, 4, 5, 6, 4095, 4096, 4097, 65_535, 2 ** 31, 0xfffffffa, 0xffffffff];
    await checkMemory(t, target, async () => {
      const asked = [
        ...lengths.map((length) => Buffer.concat([fields([length, 4]), Buffer.from('good\0\0')])),
        ...[1, 2, 0x8000, 0xffff].map((count) =>
          Buffer.concat([sized('good'), fields([count, 2])]),
        ),
        exportRequest('x'.repeat(4097)),
        exportRequest('x'.repeat(60_000)),
      ];
      for (const data of asked) {
        const isRight =
          data.readUInt32BE(0) === 4 && data.length === 10 && data.readUInt16BE(8) === 0;
        const client = await RawClient.greeted(target);
        const wanted = isRight ? NBD_REP.ACK : NBD_REP.ERR_INVALID;
        t.equal(await client.opt(INFO, data), wanted, data.subarray(0, 12).toString('hex'));
        t.equal(await client.opt(GO, exportRequest('good')), NBD_REP.ACK, 'still in step');
        client.close();
      }
      for (const number of [LIST_META_CONTEXT, SET_META_CONTEXT]) {
        const client = await RawClient.greeted(target);
        await client.opt(STRUCTURED_REPLY);
        for (const value of lengths)
          for (const at of [0, 8, 12]) {
            const data = contextRequest('good', ['base:allocation']);
            if (data.readUInt32BE(at) === value) continue;
            data.writeUInt32BE(value, at);
            t.equal(await client.opt(number, data), NBD_REP.ERR_INVALID, `${value} at ${at}`);
            if (at === 12 && value === 0xffffffff) break;
          }
        client.close();
      }
    });
  },
);

const NUMBERS = [0n, 1n, 2n ** 25n, 2n ** 25n + 1n, 2n ** 31n, 2n ** 32n - 1n];
const WIDE = [2n ** 32n, 2n ** 53n - 1n, 2n ** 53n, 2n ** 53n + 1n, 2n ** 63n, 2n ** 64n - 1n];
const DISK = BigInt(FUZZ_DISK_BYTES);

t.test(
  'F28, W7: every offset and length of every command: the right answer, or the end',
  async (t) => {
    const target = await startTarget(t);
    const offsets = [...NUMBERS, ...WIDE, DISK - 1n, DISK, 2n ** 64n - DISK];
    await checkMemory(t, target, async () => {
      for (const format of FORMATS) {
        const session = await Session.begin(target, format, 'fuzz');
        const lengths = format === 'extended' ? [...NUMBERS, ...WIDE] : NUMBERS;
        for (const type of [READ, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS, 8, 255])
          for (const offset of offsets)
            for (const length of lengths) {
              const { error } = await session.ask({ type, cookie: 1, offset, length });
              const isInside = offset + length <= DISK && type < 8;
              const isStatusOfNothing =
                type === BLOCK_STATUS && (length === 0n || format === 'simple');
              const wanted = isInside && !isStatusOfNothing ? 'success' : 'an error';
              const found = error === 0 ? 'success' : 'an error';
              if (found !== wanted) t.fail(`${format} ${type} ${offset} ${length}: ${error}`);
            }
        session.client.close();
      }
    });
  },
);

t.test('F28, S7: a WRITE of any announced length keeps no more than what arrives', async (t) => {
  const target = await startTarget(t);
  await checkMemory(t, target, async () => {
    for (const format of FORMATS)
      for (const length of format === 'extended' ? [...NUMBERS, ...WIDE] : NUMBERS) {
        const session = await Session.begin(target, format, 'good');
        const payload = Buffer.alloc(0);
        session.client.send(session.encode({ type: WRITE, cookie: 1, length, payload }));
        if (length > 2n ** 25n) t.equal((await session.client.rest()).length, 0, `${length}`);
        else if (length === 0n)
          t.equal((await session.answerTo({ type: WRITE, cookie: 1 })).error, 0);
        session.client.close();
      }
  });
});

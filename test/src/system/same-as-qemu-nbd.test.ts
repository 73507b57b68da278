// One seeded stream of requests, good and bad, goes to store-nbd and to qemu-nbd, one by one: the answers are the
// same, and so is every byte. Where they differ and both may, DIFFERENCES says so and why.
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import { needs } from '../host/requirements.js';
import { tempFolder } from '../host/temp-folder.js';
import {
  ChunkClient,
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_FLAG,
  type Answer,
} from '../nbd-client/chunk-client.js';
import type { NbdRequest } from '../nbd-client/nbd-client.js';
import {
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_EINVAL,
  NBD_ENOSPC,
} from '../nbd-client/nbd-constants.js';
import { BLOCK_BYTES, ExpectedImage, statusOfBlocks } from '../same-stream/expected-image.js';
import { QemuNbd } from '../same-stream/qemu-nbd.js';
import { randomRequest } from '../same-stream/random-request.js';
import { StoreServer } from '../server/store-server.js';
import { SeededRandom, testSeed } from '../tagged-writer/seeded-random.js';

t.setTimeout(600_000);

/** Three objects of an image, the last one short, and the last block too. */
const IMAGE_BYTES = 9 * 1024 ** 2 + 1536;
const REQUESTS = 1500;
const ANSWER_MS_MAX = 20_000;

interface Pair {
  readonly request: NbdRequest;
  readonly ours: Answer;
  readonly theirs: Answer;
}

/**
 * Where the two may differ. One more is not here, because it is undone after each TRIM: what is read afterwards is
 * open (NBD.md section 8, TRIM); ours are zeros, qemu's are what the file system makes of it. And `base:allocation`
 * is compared by blocks of 4 KiB, only where the protocol leaves no choice (section 8, BLOCK_STATUS).
 */
const DIFFERENCES: readonly { id: string; why: string; allows: (pair: Pair) => boolean }[] = [
  {
    id: 'FLUSH',
    why: 'its offset and length are reserved; we refuse others than 0, qemu-nbd ignores them inside the export',
    allows: ({ request, ours, theirs }) =>
      request.type === NBD_CMD_FLUSH &&
      hasRange(request) &&
      ours.error === NBD_EINVAL &&
      theirs.error === 0,
  },
  {
    id: 'section 11, past the end',
    why: 'the protocol says ENOSPC for writing past the end in one place and EINVAL in another; ours is ENOSPC',
    allows: ({ request, ours, theirs }) =>
      (request.type === NBD_CMD_WRITE || request.type === NBD_CMD_WRITE_ZEROES) &&
      isPastEnd(request) &&
      ours.error === NBD_ENOSPC &&
      theirs.error === NBD_EINVAL,
  },
];

for (const headers of ['simple', 'structured'] as const) {
  t.test(
    `qemu-nbd and store-nbd answer alike, with ${headers} replies`,
    needs({ commands: ['qemu-nbd'] }),
    async (t) => {
      const seed = testSeed();
      t.comment(`replay: STORE_SEED=${seed} node test/dist/system/same-as-qemu-nbd.test.js`);
      const folder = tempFolder(t);
      const file = join(folder, 'raw');
      writeFileSync(file, '');
      truncateSync(file, IMAGE_BYTES);
      const qemu = await QemuNbd.start(t, file, join(folder, 'qemu.sock'));
      const server = await StoreServer.start(t, {
        dir: join(folder, 'data'),
        image: 'vm1',
        createBytes: IMAGE_BYTES,
        socket: join(folder, 'store.sock'),
      });
      const ours = await ChunkClient.connect(server.uri, headers);
      const theirs = await ChunkClient.connect(qemu.uri, headers);
      t.teardown(() => {
        ours.destroy();
        theirs.destroy();
      });
      t.equal(theirs.facts.bytes, ours.facts.bytes);
      const expected = await compare(t, { ours, theirs, random: new SeededRandom(seed) });
      const whole = { type: NBD_CMD_READ, offset: 0, length: IMAGE_BYTES };
      t.ok((await within(ours.ask(whole))).data.equals(expected.content), 'our bytes at the end');
      await ours.disconnect();
      await theirs.disconnect();
      await qemu.stop();
      t.ok(readFileSync(file).equals(expected.content), "qemu's bytes at the end");
      await server.stop();
    },
  );
}

/** Sends the stream to both. @returns What the image must hold now */
async function compare(
  t: Test,
  { ours, theirs, random }: { ours: ChunkClient; theirs: ChunkClient; random: SeededRandom },
): Promise<ExpectedImage> {
  const expected = new ExpectedImage(IMAGE_BYTES);
  const counts = new Map<string, number>();
  for (let index = 0; index < REQUESTS; index++) {
    const request = randomRequest(random, IMAGE_BYTES);
    const pair = {
      request,
      ours: await within(ours.ask(request)),
      theirs: await within(theirs.ask(request)),
    };
    const wrong = differenceOf(pair, counts) ?? check(pair, expected);
    if (wrong !== null) {
      t.fail(`request ${index}: ${describe(request)}: ${wrong}`);
      break;
    }
    if (pair.ours.error === 0) {
      expected.apply(request);
      // A TRIM may leave anything: from here on both hold zeros again.
      if (request.type === NBD_CMD_TRIM)
        await within(theirs.ask({ ...request, type: NBD_CMD_WRITE_ZEROES, flags: 0 }));
    }
    const key = `type ${request.type}: ${pair.ours.error === 0 ? 'done' : 'refused'}`;
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  for (const [what, count] of [...counts].sort()) t.comment(`${what}: ${count}`);
  for (const type of [NBD_CMD_READ, NBD_CMD_WRITE, NBD_CMD_TRIM, NBD_CMD_WRITE_ZEROES])
    for (const end of ['done', 'refused'])
      t.ok((counts.get(`type ${type}: ${end}`) ?? 0) > 0, `type ${type} was ${end}`);
  return expected;
}

/** How the errors differ, unless they may. */
function differenceOf(pair: Pair, counts: Map<string, number>): string | null {
  const { ours, theirs } = pair;
  if (ours.error === theirs.error) return null;
  const known = DIFFERENCES.find(({ allows }) => allows(pair));
  if (known === undefined) return `we answer ${ours.error}, qemu-nbd ${theirs.error}`;
  const key = `differs (${known.id}, type ${pair.request.type}): ${known.why}`;
  counts.set(key, (counts.get(key) ?? 0) + 1);
  return null;
}

/** What is wrong with two answers that may have the errors they have. */
function check({ request, ours, theirs }: Pair, expected: ExpectedImage): string | null {
  if (ours.error !== 0) return null;
  const offset = Number(request.offset ?? 0);
  if (request.type === NBD_CMD_READ) {
    const right = expected.content.subarray(offset, offset + (request.length ?? 0));
    if (!theirs.data.equals(right)) return 'qemu-nbd returned other bytes';
    if (!ours.data.equals(right)) return 'we returned other bytes';
    const wantsOne = ((request.flags ?? 0) & NBD_CMD_FLAG.DF) !== 0;
    if (wantsOne && ours.contentChunks > 1) return 'more than one chunk in spite of DF';
  }
  if (request.type !== NBD_CMD_BLOCK_STATUS) return null;
  for (const [who, { extents }] of Object.entries({ we: ours, 'qemu-nbd': theirs })) {
    const problem = expected.problemOf(extents, request);
    if (problem !== null) return `${who} said: ${problem}`;
    for (const [block, status] of statusOfBlocks(extents, offset, IMAGE_BYTES)) {
      const certain = expected.certainStatus(block);
      // The file system under qemu-nbd keeps a block that the end of the file cuts short; we give it back.
      const isCut = (block + 1) * BLOCK_BYTES > IMAGE_BYTES;
      if (who === 'qemu-nbd' && isCut && certain !== 0) continue;
      if (certain !== null && status !== certain)
        return `${who} said ${status} of block ${block}, which is ${certain}`;
    }
  }
  return null;
}

async function within<T>(answer: Promise<T>): Promise<T> {
  let limit: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    limit = setTimeout(() => reject(new Error(`no answer in ${ANSWER_MS_MAX} ms`)), ANSWER_MS_MAX);
  });
  try {
    return await Promise.race([answer, late]);
  } finally {
    clearTimeout(limit);
  }
}

function lengthOf({ length, payload }: NbdRequest): number {
  return length ?? payload?.length ?? 0;
}

function hasRange(request: NbdRequest): boolean {
  return Number(request.offset ?? 0) !== 0 || lengthOf(request) !== 0;
}

function isPastEnd(request: NbdRequest): boolean {
  return Number(request.offset ?? 0) + lengthOf(request) > IMAGE_BYTES;
}

function describe({ type, flags = 0, offset = 0, ...rest }: NbdRequest): string {
  return `type ${type}, flags ${flags}, ${lengthOf({ type, ...rest })} bytes at ${offset}`;
}

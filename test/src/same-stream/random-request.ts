import { NBD_CMD_BLOCK_STATUS, NBD_CMD_FLAG } from '../nbd-client/chunk-client.js';
import type { NbdRequest } from '../nbd-client/nbd-client.js';
import {
  NBD_CMD_CACHE,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
} from '../nbd-client/nbd-constants.js';
import type { SeededRandom } from '../tagged-writer/seeded-random.js';

const { FUA, NO_HOLE, DF, REQ_ONE } = NBD_CMD_FLAG;
const LENGTH_MAX = 300_000;
const UNKNOWN_COMMANDS = [9, 100, 0xffff];

/** How often each command comes, and the flags it may carry. */
const COMMANDS: readonly { type: number; weight: number; flags: readonly number[] }[] = [
  { type: NBD_CMD_READ, weight: 25, flags: [0, DF, FUA] },
  { type: NBD_CMD_WRITE, weight: 30, flags: [0, FUA] },
  { type: NBD_CMD_TRIM, weight: 9, flags: [0, FUA] },
  { type: NBD_CMD_WRITE_ZEROES, weight: 13, flags: [0, FUA, NO_HOLE, FUA | NO_HOLE] },
  { type: NBD_CMD_FLUSH, weight: 4, flags: [0, FUA] },
  { type: NBD_CMD_CACHE, weight: 4, flags: [0, FUA] },
  { type: NBD_CMD_BLOCK_STATUS, weight: 15, flags: [0, REQ_ONE, FUA] },
];
const BAG = COMMANDS.flatMap((command) => Array<typeof command>(command.weight).fill(command));
/** Any flag of the protocol but FAST_ZERO, which asks how a server works, and one that means nothing. */
const ANY_FLAG = [FUA, NO_HOLE, DF, REQ_ONE, 0x4000];

/** One request to an export of `bytes`: mostly good, sometimes with a bad range, flag or command. */
export function randomRequest(random: SeededRandom, bytes: number): NbdRequest {
  const { type: usual, flags: usualFlags } = random.pick(BAG);
  const type = random.chance(1) ? random.pick(UNKNOWN_COMMANDS) : usual;
  const flags = random.chance(8)
    ? random.pick(ANY_FLAG) | random.pick(ANY_FLAG)
    : random.pick(usualFlags);
  if (type === NBD_CMD_FLUSH && !random.chance(10)) return { type, flags };
  const { offset, length } = random.chance(6) ? badRange(random, bytes) : goodRange(random, bytes);
  if (type !== NBD_CMD_WRITE) return { type, flags, offset, length };
  return { type, flags, offset, payload: randomPayload(random, length) };
}

/** Aligned to blocks, to sectors or to nothing; now and then empty, or up to the end. */
function goodRange(random: SeededRandom, bytes: number): { offset: number; length: number } {
  const unit = random.pick([1, 512, 4096, 4096]);
  const offset = random.below(bytes / unit) * unit;
  const small = random.chance(70) ? 20_000 : LENGTH_MAX;
  const wanted = random.chance(3) ? 0 : unit * random.between(1, Math.ceil(small / unit));
  return { offset, length: random.chance(3) ? bytes - offset : Math.min(wanted, bytes - offset) };
}

/** Past the end: by a byte, wholly, or by far. */
function badRange(
  random: SeededRandom,
  bytes: number,
): { offset: number | bigint; length: number } {
  const length = random.between(1, 10_000);
  const offset = random.pick([
    bytes - length + 1,
    bytes,
    bytes + 1,
    2 ** 40,
    2n ** 63n,
    2n ** 64n - 1n,
  ]);
  return { offset: typeof offset === 'number' ? Math.max(0, offset) : offset, length };
}

/** Zeros, one letter, or noise. */
function randomPayload(random: SeededRandom, length: number): Buffer {
  const payload = Buffer.alloc(length, random.chance(15) ? 0 : random.between(1, 255));
  if (random.chance(50)) return payload;
  for (let at = 0; at < length; at += random.between(1, 5000)) payload[at] = random.below(256);
  return payload;
}

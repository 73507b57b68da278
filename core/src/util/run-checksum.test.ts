import fc from 'fast-check';
import t from 'tap';
import { crc32c } from './crc32c.js';
import { BLOCK_BYTES } from './limits.js';
import { appendBlock } from './run-checksum.js';

/** Blocks of random bytes. */
const blocks = fc
  .array(fc.infiniteStream(fc.nat(255)), { minLength: 1, maxLength: 5 })
  .map((streams) => streams.map((bytes) => Buffer.from([...bytes.take(BLOCK_BYTES)])));

function ofRun(run: readonly Buffer[]): number {
  const [first, ...rest] = run.map((block) => crc32c(block));
  return rest.reduce((before, block) => appendBlock(before, block), first ?? 0);
}

t.test('appendBlock() makes the checksum of the whole run', async () => {
  const property = fc.property(blocks, (run) => ofRun(run) === crc32c(Buffer.concat(run)));
  fc.assert(property, { numRuns: 30 });
});

t.test('one flipped bit anywhere in a run shows', async () => {
  const property = fc.property(blocks, fc.nat(), (run, place) => {
    const bytes = Buffer.concat(run);
    const at = place % (bytes.length * 8);
    bytes[at >> 3] = (bytes[at >> 3] ?? 0) ^ (1 << (at & 7));
    return ofRun(run) !== crc32c(bytes);
  });
  fc.assert(property, { numRuns: 30 });
});

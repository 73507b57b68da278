// A flipped byte in the data file is an EIO for that block and a line in the log; never wrong bytes, never another block.
import { closeSync, fstatSync, openSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { tempFolder } from '../host/temp-folder.js';
import { NbdClient } from '../nbd-client/nbd-client.js';
import { NBD_EIO } from '../nbd-client/nbd-constants.js';
import { StoreServer } from '../server/store-server.js';
import { SECTOR_BYTES, writeSectorTag } from '../tagged-writer/sector-tag.js';
import { SeededRandom, testSeed } from '../tagged-writer/seeded-random.js';

t.setTimeout(360_000);

const BLOCK_BYTES = 4096;
const BLOCKS = 4 * 1024;
const FLIPS = 12;

function blockContent(block: number): Buffer {
  const content = Buffer.alloc(BLOCK_BYTES);
  for (let at = 0; at < BLOCK_BYTES; at += SECTOR_BYTES)
    writeSectorTag(content.subarray(at, at + SECTOR_BYTES), (block * BLOCK_BYTES + at) / 512, 1);
  return content;
}

/** Where each block of the image is in the data file, by looking for its content. */
function findBlocks(fd: number): Map<number, number> {
  const found = new Map<number, number>();
  const position = Buffer.alloc(BLOCK_BYTES);
  for (let at = 0; at < fstatSync(fd).size; at += BLOCK_BYTES) {
    readSync(fd, position, 0, BLOCK_BYTES, at);
    const block = position.readUIntLE(4, 6) / 8;
    if (Number.isInteger(block) && position.equals(blockContent(block))) found.set(block, at);
  }
  return found;
}

t.test('flipped bytes in the data file are found by reads, and only there', async (t) => {
  const seed = testSeed();
  t.comment(`replay: STORE_SEED=${seed} node test/dist/system/flipped-bytes.test.js`);
  const random = new SeededRandom(seed);
  const folder = tempFolder(t);
  const options = {
    dir: join(folder, 'data'),
    image: 'vm1',
    socket: join(folder, 'nbd.sock'),
    createBytes: BLOCKS * BLOCK_BYTES,
  };
  const first = await StoreServer.start(t, options);
  let client = await NbdClient.connect(first.uri);
  for (let block = 0; block < BLOCKS; block += 16) {
    const blocks = Array.from({ length: 16 }, (_, index) => blockContent(block + index));
    t.equal((await client.write(block * BLOCK_BYTES, Buffer.concat(blocks))).error, 0);
  }
  await client.disconnect();
  await first.stop();

  const fd = openSync(join(options.dir, 'data'), 'r+');
  const places = findBlocks(fd);
  t.equal(places.size, BLOCKS, 'every block is in the data file, where FORMAT.md says');
  const flipped = new Set<number>();
  while (flipped.size < FLIPS) {
    const block = random.below(BLOCKS);
    const at = (places.get(block) ?? 0) + random.below(BLOCK_BYTES);
    if (flipped.has(block)) continue;
    const byte = Buffer.alloc(1);
    readSync(fd, byte, 0, 1, at);
    byte[0] = (byte[0] ?? 0) ^ (1 << random.below(8));
    writeSync(fd, byte, 0, 1, at);
    flipped.add(block);
  }
  closeSync(fd);

  const second = await StoreServer.start(t, options);
  client = await NbdClient.connect(second.uri);
  for (let block = 0; block < BLOCKS; block++) {
    const { error, data } = await client.read(block * BLOCK_BYTES, BLOCK_BYTES);
    if (flipped.has(block)) {
      if (error !== NBD_EIO) t.equal(error, NBD_EIO, `flipped block ${block}`);
    } else if (error !== 0 || !data.equals(blockContent(block))) {
      t.fail(`block ${block} was not touched and reads wrong (error ${error})`);
    }
  }
  const [bad = 0] = flipped;
  const around = await client.read(Math.max(0, bad - 1) * BLOCK_BYTES, 2 * BLOCK_BYTES);
  t.equal(around.error, NBD_EIO, 'a read of several blocks fails with the bad one');
  t.match(second.log, /checksum/i, 'the log says so');
  const part = await client.write(bad * BLOCK_BYTES + 100, Buffer.alloc(100, 1));
  t.equal(part.error, NBD_EIO, 'a part of a bad block cannot be written');
  t.equal((await client.read(bad * BLOCK_BYTES, BLOCK_BYTES)).error, NBD_EIO, 'it stays bad');
  t.equal((await client.write(bad * BLOCK_BYTES, blockContent(bad))).error, 0, 'the whole can');
  t.same((await client.read(bad * BLOCK_BYTES, BLOCK_BYTES)).data, blockContent(bad));
  await client.disconnect();
  await second.stop();
});

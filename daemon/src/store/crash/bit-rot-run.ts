/** Writes, closes, damages what is on the medium, reads: right bytes or an error, never wrong ones. */
import { BLOCK_BYTES, OBJECT_KIND, ObjectRef, StoreError, promised } from '@store/core';
import { SimRandom, type SimDisk } from '@store/core/sim';
import type { FileStore } from '../file-store.js';
import { slotPosition } from '../slot-map.js';
import { SimStore } from './sim-store.js';

const BLOCKS = 64;

export async function bitRotRun(options: {
  seed: number;
  sabotage: (store: FileStore, disk: SimDisk) => void;
  prepare: (disk: SimDisk) => void;
}): Promise<void> {
  const random = new SimRandom(options.seed, 3);
  const world = new SimStore(options.seed);
  const ref = new ObjectRef(OBJECT_KIND.imageData, 'layer_0', 'family_0');
  const model = Buffer.alloc(BLOCKS * BLOCK_BYTES);
  const first = await world.open();
  for (let write = 0; write < 30; write += 1) {
    const block = random.below(BLOCKS);
    const blocks = 1 + random.below(BLOCKS - block);
    const bytes = random.bytes(blocks * BLOCK_BYTES);
    bytes.copy(model, block * BLOCK_BYTES);
    await world.wait(() =>
      promised((done) => first.pool.write(ref, block * BLOCK_BYTES, [bytes], 0, done)),
    );
  }
  const slot = first.store.parts.table.find(1, ref).slot;
  await world.wait(() => first.store.close());

  const damaged = new Set<number>();
  for (let fault = 0; fault < 5; fault += 1) {
    const block = random.below(BLOCKS);
    damaged.add(block);
    const position = slotPosition(slot) + block * BLOCK_BYTES;
    if (random.chance(0.5))
      world.disk.data.flip(position + random.below(BLOCK_BYTES), 1 << random.below(8));
    else {
      // A misdirected write: a good block, at the wrong place.
      const other = Buffer.alloc(BLOCK_BYTES);
      world.disk.data.read(slotPosition(slot) + ((block + 7) % BLOCKS) * BLOCK_BYTES, other);
      world.disk.data.write(position, other);
    }
  }

  const { store, pool } = await world.open();
  options.sabotage(store, world.disk);
  for (let block = 0; block < BLOCKS; block += 1) {
    const target = Buffer.alloc(BLOCK_BYTES);
    const at = block * BLOCK_BYTES;
    try {
      await world.wait(() => promised((done) => pool.read(ref, at, target, done)));
      if (!target.equals(model.subarray(at, at + BLOCK_BYTES)))
        throw new Error(`Block ${block} is wrong, and no error says so`);
    } catch (error) {
      if (!(error instanceof StoreError) || error.code !== 'E_CHECKSUM') throw error;
      if (!damaged.has(block)) throw new Error(`Block ${block} is good and not readable`);
    }
  }
}

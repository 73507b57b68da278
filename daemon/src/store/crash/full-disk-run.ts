/** Fills the disk: refusals, nothing lost, and deleting always works. */
import { BLOCK_BYTES, OBJECT_KIND, ObjectRef, StoreError, promised } from '@store/core';
import { SimRandom, type SimDisk } from '@store/core/sim';
import type { FileStore } from '../file-store.js';
import { SimStore } from './sim-store.js';

export async function fullDiskRun(options: {
  seed: number;
  sabotage: (store: FileStore, disk: SimDisk) => void;
  prepare: (disk: SimDisk) => void;
}): Promise<void> {
  const random = new SimRandom(options.seed, 3);
  const world = new SimStore(options.seed);
  world.disk.capacityBytes = 2 * 1024 * 1024;
  world.disk.dataFaults.punch = 1;
  const { store, pool } = await world.open();
  options.sabotage(store, world.disk);
  const refs = [0, 1, 2, 3].map(
    (index) => new ObjectRef(OBJECT_KIND.imageData, `layer_${index}`, `family_${index}`),
  );
  const written = new Map<string, { ref: ObjectRef; block: number; tag: string }>();
  let refusals = 0;
  for (let write = 0; write < 3000 && refusals < 5; write += 1) {
    const ref = random.pick(refs);
    const block = random.below(512);
    const tag = `<${write}>`;
    const parts = [Buffer.alloc(BLOCK_BYTES, tag)];
    try {
      await world.wait(() =>
        promised((done) => pool.write(ref, block * BLOCK_BYTES, parts, 0, done)),
      );
      written.set(`${ref.id} ${block}`, { ref, block, tag });
      if (random.chance(0.05)) await world.wait(() => promised((done) => pool.flush(done)));
    } catch (error) {
      if (!(error instanceof StoreError) || error.code !== 'E_NO_SPACE') throw error;
      refusals += 1;
    }
  }
  if (refusals === 0) throw new Error('The disk was never full');
  await world.wait(() => promised((done) => pool.flush(done)));
  for (const { ref, block, tag } of written.values()) {
    const target = Buffer.alloc(BLOCK_BYTES);
    await world.wait(() => promised((done) => pool.read(ref, block * BLOCK_BYTES, target, done)));
    if (!target.equals(Buffer.alloc(BLOCK_BYTES, tag)))
      throw new Error(`Block ${block} of ${ref.id} is wrong`);
  }
  for (const ref of refs) await world.wait(() => pool.delete(ref));
  // There is room again.
  const [ref] = refs;
  if (ref !== undefined)
    await world.wait(() =>
      promised((done) => pool.write(ref, 0, [Buffer.alloc(BLOCK_BYTES, 1)], 1, done)),
    );
  await world.wait(() => store.close());
}

import type { StateStore } from '@store/master';

/** Flips a bit in the middle of the map that a store keeps. @returns how to undo it */
export async function damageMap(store: StateStore): Promise<() => Promise<unknown>> {
  const [entry] = (await store.read('map/')).entries;
  if (entry === undefined) throw new Error('there is a map');
  const { key, value } = entry;
  const put = (bytes: Buffer): Promise<unknown> =>
    store.commit({ conditions: [], changes: [{ key, value: bytes }] });
  const damaged = Buffer.from(value);
  const middle = value.length >> 1;
  damaged.writeUInt8(damaged.readUInt8(middle) ^ 0x10, middle);
  await put(damaged);
  return () => put(value);
}

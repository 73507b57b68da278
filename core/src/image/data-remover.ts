/**
 * Removes the data of an image, whole or behind a new end. It finds objects by listing, not by counting up to the
 * size: an empty image of a petabyte has nothing to remove, and what a process that died left behind is found
 * whatever size the image had then. Running it again after any interruption does the rest.
 */
import { OBJECT_KIND, WRITE_FLAGS, type ObjectPool } from '../pool/object-pool.js';
import { promised } from '../util/errors.js';
import { LIST_PAGE_MAX } from '../util/limits.js';
import { dataKeyPrefix, dataRef, indexOfDataKey, type Stripes } from './striping.js';

/** Called now and then during long work: `done` of `total` data objects are removed. */
export type OnProgress = (done: number, total: number) => void;

/** Deletes are durable one by one; this many at a time share their transactions. */
const DELETES_IN_FLIGHT_MAX = 64;

/** Indexes of a layer's data objects, page by page, in no particular order. */
export async function* dataIndexes(
  pool: ObjectPool,
  stripes: Stripes,
): AsyncGenerator<{ index: number; allocatedBytes: number }[]> {
  let cursor: Buffer | undefined;
  do {
    const page = await pool.list({
      kind: OBJECT_KIND.imageData,
      prefix: dataKeyPrefix(stripes.layer),
      limit: LIST_PAGE_MAX,
      ...(cursor === undefined ? {} : { cursor }),
    });
    yield page.entries.flatMap(({ key, stat }) => {
      const index = indexOfDataKey(key);
      return index === null ? [] : [{ index, allocatedBytes: stat.allocatedBytes }];
    });
    cursor = page.cursor;
  } while (cursor !== undefined);
}

/**
 * Removes everything from byte `end` of an image on; durable when it returns.
 * @param end - 0 removes all; otherwise the object that holds byte `end` keeps what is before it.
 */
export async function removeDataFrom(
  pool: ObjectPool,
  stripes: Stripes,
  objectBytes: number,
  end: number,
  onProgress: OnProgress,
): Promise<void> {
  const first = Math.ceil(end / objectBytes);
  let total = 0;
  for await (const page of dataIndexes(pool, stripes))
    for (const { index } of page) if (index >= first) total += 1;
  let done = 0;
  for await (const page of dataIndexes(pool, stripes)) {
    const doomed = page.filter(({ index }) => index >= first);
    const worker = async (): Promise<void> => {
      for (let next = doomed.pop(); next !== undefined; next = doomed.pop()) {
        await pool.delete(dataRef(stripes, next.index));
        done += 1;
        onProgress(done, Math.max(done, total));
      }
    };
    await Promise.all(Array.from({ length: DELETES_IN_FLIGHT_MAX }, worker));
  }
  const kept = end % objectBytes;
  if (kept === 0) return;
  const edge = dataRef(stripes, first - 1);
  await promised((answer) => {
    pool.zero(edge, kept, objectBytes - kept, WRITE_FLAGS.durable, answer);
  });
}

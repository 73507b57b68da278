/**
 * Removes the data of an image, whole or behind a new end. It finds objects by listing, not by counting up to the
 * size: an empty image of a petabyte has nothing to remove, and what a process that died left behind is found
 * whatever size the image had then. Running it again after any interruption does the rest.
 */
import { OBJECT_KIND, WRITE_FLAGS, type ObjectPool } from '../pool/object-pool.js';
import { promised, StoreError } from '../util/errors.js';
import { LIST_PAGE_MAX } from '../util/limits.js';
import { dataKeyPrefix, dataRef, indexOfDataKey, type Stripes } from './striping.js';

/** Called now and then during long work: `done` of `total` data objects are removed. */
export type OnProgress = (done: number, total: number) => void;

/**
 * Asked again and again: is what is being removed still to be removed? Whoever is stopped for a while may find that
 * somebody else has finished his work, and that new data has been written there since.
 */
export type MayGoOn = () => Promise<boolean>;

/** Deletes are durable one by one; this many at a time share their transactions. */
const DELETES_IN_FLIGHT_MAX = 64;
/** How often objects are looked for again that somebody has changed while they were to be removed. */
const ROUNDS_MAX = 100;

/** Indexes of a layer's data objects, page by page, in no particular order. */
export async function* dataIndexes(
  pool: ObjectPool,
  stripes: Stripes,
): AsyncGenerator<{ index: number; version: number; allocatedBytes: number }[]> {
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
      return index === null
        ? []
        : [{ index, version: stat.version, allocatedBytes: stat.allocatedBytes }];
    });
    cursor = page.cursor;
  } while (cursor !== undefined);
}

/**
 * Removes everything from byte `end` of an image on; durable when it returns.
 *
 * A page is listed first, then it is asked whether to go on, and then each object is deleted if it still has the version
 * that was listed. So nothing goes that was written after the answer.
 * @param end - 0 removes all; otherwise the object that holds byte `end` keeps what is before it.
 * @returns False if it stopped because it may not go on
 * @throws StoreError `E_IN_USE` if somebody goes on writing what is to be removed
 */
export async function removeDataFrom(
  pool: ObjectPool,
  stripes: Stripes,
  objectBytes: number,
  end: number,
  { onProgress, mayGoOn }: { onProgress: OnProgress; mayGoOn: MayGoOn },
): Promise<boolean> {
  const first = Math.ceil(end / objectBytes);
  const kept = end % objectBytes;
  if (kept > 0) {
    // A zero has no condition: it comes first, right behind the answer.
    if (!(await mayGoOn())) return false;
    const edge = dataRef(stripes, first - 1);
    await promised((answer) => {
      pool.zero(edge, kept, objectBytes - kept, WRITE_FLAGS.durable, answer);
    });
  }
  let total = 0;
  for await (const page of dataIndexes(pool, stripes))
    for (const { index } of page) if (index >= first) total += 1;
  let done = 0;
  for (let round = 0; round < ROUNDS_MAX; round += 1) {
    let left = 0;
    for await (const page of dataIndexes(pool, stripes)) {
      const doomed = page.filter(({ index }) => index >= first);
      if (doomed.length > 0 && !(await mayGoOn())) return false;
      const worker = async (): Promise<void> => {
        for (let next = doomed.pop(); next !== undefined; next = doomed.pop()) {
          if (!(await pool.delete(dataRef(stripes, next.index), next.version))) left += 1;
          done += 1;
          onProgress(done, Math.max(done, total));
        }
      };
      await Promise.all(Array.from({ length: DELETES_IN_FLIGHT_MAX }, worker));
    }
    if (left === 0) return true;
  }
  throw new StoreError('E_IN_USE', 'Somebody goes on writing what is to be removed; stop it first');
}

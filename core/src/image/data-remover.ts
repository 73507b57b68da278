/**
 * Removes the data of an image, whole or behind a new end. It finds objects by listing, not by counting up to the
 * size: an empty image of a petabyte has nothing to remove, and what a process that died left behind is found
 * whatever size the image had then. Running it again after any interruption does the rest.
 *
 * Who removes may be stopped at any moment and wake up long after somebody else finished the work and the range is in use
 * again. So each page is listed first, then the header is asked whether it still is the change that is being finished, and
 * only then is each object deleted, if it still has the version that was listed: what was written after the header moved
 * on has another.
 */
import { OBJECT_KIND, WRITE_FLAGS, type ObjectPool } from '../pool/object-pool.js';
import { promised, StoreError } from '../util/errors.js';
import { LIST_PAGE_MAX } from '../util/limits.js';
import { dataKeyPrefix, dataRef, indexOfDataKey, type Stripes } from './striping.js';

/** Called now and then during long work: `done` of `total` data objects are removed. */
export type OnProgress = (done: number, total: number) => void;

/** Deletes are durable one by one; this many at a time share their transactions. */
const DELETES_IN_FLIGHT_MAX = 64;

/** Passes over what changed between list and delete; nobody should write there at all. */
const PASSES_MAX = 20;

/** A data object as it was when it was listed. */
export interface ListedData {
  readonly index: number;
  readonly version: number;
  readonly allocatedBytes: number;
}

/** Indexes of a layer's data objects, page by page, in no particular order. */
export async function* dataIndexes(
  pool: ObjectPool,
  stripes: Stripes,
): AsyncGenerator<ListedData[]> {
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
      const { version, allocatedBytes } = stat;
      return index === null ? [] : [{ index, version, allocatedBytes }];
    });
    cursor = page.cursor;
  } while (cursor !== undefined);
}

/** What is removed, and for how long. */
export interface Removal {
  readonly stripes: Stripes;
  readonly objectBytes: number;
  /** 0 removes all; otherwise the object that holds byte `end` keeps what is before it. */
  readonly end: number;
  /** Is the header still the one that asks for this removal? */
  readonly isCurrent: () => Promise<boolean>;
}

/**
 * Removes everything from byte `end` of an image on; durable when it returns.
 * @returns false if the header moved on: somebody else has finished it, and what is there now is not ours to remove
 * @throws StoreError `E_IN_USE` if somebody goes on writing there
 */
export async function removeDataFrom(
  pool: ObjectPool,
  removal: Removal,
  onProgress: OnProgress,
): Promise<boolean> {
  const { stripes, objectBytes, end } = removal;
  const first = Math.ceil(end / objectBytes);
  let total = 0;
  for await (const page of dataIndexes(pool, stripes))
    for (const { index } of page) if (index >= first) total += 1;
  let done = 0;
  const deleted = (): void => {
    done += 1;
    onProgress(done, Math.max(done, total));
  };
  for (let pass = 1; ; pass += 1) {
    const left = await removeListed(pool, removal, first, deleted);
    if (left === null) return false;
    if (left === 0) break;
    if (pass === PASSES_MAX)
      throw new StoreError(
        'E_IN_USE',
        `Data that are being removed from pool '${pool.name}' are written all the time; detach the image everywhere and try again`,
      );
  }
  const kept = end % objectBytes;
  if (kept === 0) return true;
  if (!(await removal.isCurrent())) return false;
  const edge = dataRef(stripes, first - 1);
  await promised((answer) => {
    pool.zero(edge, kept, objectBytes - kept, WRITE_FLAGS.durable, answer);
  });
  return true;
}

/** @returns how many were not there any more as they were listed; null if the header moved on */
async function removeListed(
  pool: ObjectPool,
  { stripes, isCurrent }: Removal,
  first: number,
  deleted: () => void,
): Promise<number | null> {
  let left = 0;
  for await (const page of dataIndexes(pool, stripes)) {
    const doomed = page.filter(({ index }) => index >= first);
    if (doomed.length === 0) continue;
    if (!(await isCurrent())) return null;
    const worker = async (): Promise<void> => {
      for (let next = doomed.pop(); next !== undefined; next = doomed.pop()) {
        if (await pool.delete(dataRef(stripes, next.index), next.version)) deleted();
        else left += 1;
      }
    };
    await Promise.all(Array.from({ length: DELETES_IN_FLIGHT_MAX }, worker));
  }
  return left;
}

/** Reads the guards that are stored of one group, for a primary that begins. */
import {
  decodeGuard,
  firstHash,
  GUARD_BYTES,
  guardRef,
  imageOfGuardKey,
  isGuardKey,
  oneByOne,
  StoreError,
  type Done,
  type Log,
  type ObjectRef,
} from '@store/core';
import type { ObjectPlace } from './change.js';
import type { GuardTable } from './guard-table.js';
import type { ReplicaPool } from './replica-pool.js';

/** Objects looked at together. */
const PAGE = 256;

export interface GuardLoad {
  readonly store: ReplicaPool;
  readonly group: number;
  /** How many groups the pool has. */
  readonly groups: number;
  readonly table: GuardTable;
  readonly log: Log;
  /** Sees that an object which cannot be read here is read where it can be. */
  readonly mend: (object: ObjectPlace, done: (isMended: boolean) => void) => void;
  readonly done: Done;
}

export function loadGuards(load: GuardLoad): void {
  const { store, group, groups, done } = load;
  const first = firstHash(group, groups);
  const page = (after: Buffer | null): void => {
    store.inventory({ from: first, to: first }, after, PAGE, (error, found) => {
      if (error !== null || found === undefined) {
        done(error);
        return;
      }
      const keys = found.entries.map(({ object }) => object.key).filter(isGuardKey);
      const { next } = found;
      oneByOne(
        keys.length,
        (index, loaded) => loadOne(load, keys[index] ?? Buffer.alloc(0), false, loaded),
        (failed) => {
          if (failed !== null || next === null) done(failed);
          else page(next);
        },
      );
    });
  };
  page(null);
}

function loadOne(load: GuardLoad, key: Buffer, isMended: boolean, done: Done): void {
  const { store, group, groups, table, mend } = load;
  const image = imageOfGuardKey(key);
  const ref = guardRef(image, group, groups);
  const bytes = Buffer.alloc(GUARD_BYTES);
  store.read(ref, 0, bytes, (error) => {
    if (error?.code === 'E_CHECKSUM' && !isMended) mend(ref, () => loadOne(load, key, true, done));
    else if (error?.code === 'E_CHECKSUM') unreadable(load, ref, image, error, done);
    // It was removed, and the record of that is still on its way.
    else if (error?.code === 'E_NOT_FOUND') done(null);
    else if (error !== null) done(error);
    else
      try {
        table.load(decodeGuard(bytes));
        done(null);
      } catch (failure) {
        if (!(failure instanceof StoreError)) throw failure;
        unreadable(load, ref, image, failure, done);
      }
  });
}

/** Better nobody writes to that image than the wrong one; all others go on. */
function unreadable(
  { group, table, log }: GuardLoad,
  ref: ObjectRef,
  image: string,
  error: StoreError,
  done: Done,
): void {
  log.error(
    { group, image, key: ref.key.toString() },
    `Who writes to an image cannot be read, so nobody does before the role is taken again: ${error.message}`,
  );
  table.loadUnreadable(image);
  done(null);
}

/**
 * Bugs that a storage engine like this one may have, each as a change to a running store. A test of the engine is
 * worth what it finds of these.
 */
import { BLOCK_BYTES } from '@store/core';
import type { SimDisk } from '@store/core/sim';
import { bitRotRun } from './bit-rot-run.js';
import { crashRun } from './crash-run.js';
import { fullDiskRun } from './full-disk-run.js';
import type { FileStore } from '../file-store.js';
import { BlockLocks } from '../block-locks.js';
import type { StoredObject } from '../stored-object.js';

export interface PlantedBug {
  readonly name: string;
  /** Found within so many seeds; each is a life of several starts. */
  readonly seedsMax: number;
  /** Where to begin, for what is rare; 1 if it is not said. */
  readonly seedFirst?: number;
  readonly plant: (store: FileStore, disk: SimDisk) => void;
  /** Faults of the disk that bring it to light; without the bug they do no harm. */
  readonly prepare?: (disk: SimDisk) => void;
  /** The test that shall find it; a life of crashes unless told otherwise. */
  readonly run?: TestRun;
}

/** Throws what it found. */
export type TestRun = (options: {
  seed: number;
  sabotage: (store: FileStore, disk: SimDisk) => void;
  prepare: (disk: SimDisk) => void;
}) => Promise<unknown>;

export const lifeOfCrashes: TestRun = (options) =>
  crashRun({ ...options, starts: 8, stepsMax: 400 });

export const PLANTED_BUGS: readonly PlantedBug[] = [
  {
    name: 'states are committed before their data is synced',
    seedsMax: 20,
    plant: ({ engine }) => {
      engine.sync.sync = (done) => done(null);
    },
  },
  {
    name: 'parts are overwritten without being opened',
    seedsMax: 20,
    plant: ({ parts }) => {
      parts.opener.isNeeded = () => false;
    },
  },
  {
    name: 'the error of a sync is swallowed',
    seedsMax: 20,
    prepare: (disk) => {
      disk.dataFaults.syncError = 0.2;
    },
    plant: ({ engine }) => {
      const sync = engine.data.sync.bind(engine.data);
      engine.data.sync = (done) => sync(() => done(null));
    },
  },
  {
    name: 'checksums are not compared',
    seedsMax: 20,
    run: bitRotRun,
    plant: ({ parts }) => {
      parts.reader.verify = () => null;
    },
  },
  {
    name: 'nothing is noted in live',
    seedsMax: 20,
    plant: ({ engine }) => {
      engine.live.appendState = () => undefined;
    },
  },
  {
    name: 'a flush records what was written during its sync',
    // Of the first 300 lives one shows it. Looking at all of them takes as long as the other bugs together.
    seedFirst: 200,
    seedsMax: 100,
    plant: ({ engine, parts }) => {
      refreshHeads(parts.table.objects.bind(parts.table), (commit) => {
        const add = engine.committer.add.bind(engine.committer);
        engine.committer.add = (job) => {
          commit();
          add(job);
        };
      });
    },
  },
  {
    name: 'a write during a close leaves the part closed',
    seedsMax: 60,
    plant: ({ engine, parts }) => {
      const add = engine.committer.add.bind(engine.committer);
      engine.committer.add = (job) =>
        add({
          build: (transaction) => {
            for (const object of parts.table.objects()) object.touched.fill(0);
            job.build(transaction);
          },
          committed: (error) => job.committed(error),
        });
    },
  },
  {
    name: 'a slot is used again before the delete is durable',
    seedsMax: 200,
    plant: ({ engine }) => {
      const early = new Set<number>();
      const appendRemoved = engine.live.appendRemoved.bind(engine.live);
      engine.live.appendRemoved = (object) => {
        appendRemoved(object);
        if (object.durable === null || !engine.slots.isTaken(object.slot)) return;
        engine.slots.free(object.slot);
        early.add(object.slot);
      };
      const free = engine.slots.free.bind(engine.slots);
      engine.slots.free = (slot) => {
        if (!early.delete(slot)) free(slot);
      };
    },
  },
  {
    name: 'overlapping writes reach the disk in any order',
    seedsMax: 20,
    plant: ({ parts }) => {
      const find = parts.table.find.bind(parts.table);
      parts.table.find = (poolId, ref) => {
        const object = find(poolId, ref);
        withoutOrder(object);
        return object;
      };
    },
  },
  {
    name: 'a failing sync of the metadata is swallowed',
    seedsMax: 20,
    prepare: (disk) => {
      disk.metaFaults.commitError = 0.2;
    },
    plant: (_store, disk) => {
      disk.metaFaults.swallowCommitError = true;
    },
  },
  {
    name: 'no room is kept for deletes when the disk is full',
    seedsMax: 20,
    run: fullDiskRun,
    plant: ({ engine }) => {
      engine.space.admit = () => true;
    },
  },
  {
    name: 'freed blocks are punched without waiting for writes',
    seedsMax: 200,
    plant: ({ engine, parts }) => {
      // Punches late, when somebody may have written there again.
      const punch = engine.data.punch.bind(engine.data);
      engine.data.punch = (position, bytes, done) => {
        done(null);
        parts.engine.env.timers.after(1, () => punch(position, bytes, () => undefined));
      };
    },
  },
  {
    name: 'a parked write is not waited for by a flush',
    seedsMax: 60,
    plant: ({ parts }) => {
      const { parked } = parts;
      parked.whenLanded = (done) => done(null);
    },
  },
  {
    name: 'checksums that come with a write are not compared',
    seedsMax: 20,
    plant: (store) => {
      // It is open already, so this comes before the first operation is answered.
      void store.openPool('pool', { create: false }).then((pool) => {
        pool.writeChecked = (ref, offset, parts, _checks, flags, done) =>
          pool.write(ref, offset, parts, flags, done);
      });
    },
  },
  {
    name: 'a write that fills what is absent overwrites data',
    seedsMax: 20,
    plant: ({ parts }) => {
      const { writer } = parts;
      writer.writeIfAbsent = (...args) => writer.write(...args);
    },
  },
  {
    name: 'what is absent is decided before it is its turn',
    seedsMax: 60,
    plant: ({ parts }) => {
      const { writer } = parts;
      const fill = writer.writeIfAbsent.bind(writer);
      writer.writeIfAbsent = (object, kind, offset, ...rest) => {
        const first = offset / BLOCK_BYTES;
        const last = first + rest[1] / BLOCK_BYTES - 1;
        const isAllAbsent = object.states.subarray(first, last + 1).every((state) => state === 0);
        if (isAllAbsent) writer.write(object, kind, offset, ...rest);
        else fill(object, kind, offset, ...rest);
      };
    },
  },
];

/** Every head that is taken for a commit shows, when the commit is made, what memory says by then. */
function refreshHeads(
  objects: () => Iterable<StoredObject>,
  onCommit: (refresh: () => void) => void,
): void {
  const taken: { object: StoredObject; head: Buffer; encode: () => Buffer }[] = [];
  const seen = new WeakSet<StoredObject>();
  const watch = (object: StoredObject): void => {
    if (seen.has(object)) return;
    seen.add(object);
    const encode = object.encode.bind(object);
    object.encode = () => {
      const head = encode();
      taken.push({ object, head, encode });
      return head;
    };
  };
  onCommit(() => {
    for (const { object, head, encode } of taken.splice(0)) if (object.exists) encode().copy(head);
    for (const object of objects()) watch(object);
  });
}

function withoutOrder(object: StoredObject): void {
  const { locks } = object;
  if (!(locks instanceof BlockLocks)) return;
  locks.conflicts = () => false;
}

/**
 * A simulated store with which a test tells a story: short words for what a user does, and a disk whose operations
 * the test can change. A change lasts for one opening and sees only what the process asks, so a killed process takes
 * it along.
 */
import {
  BLOCK_BYTES,
  OBJECT_KIND,
  ObjectRef,
  type AppendFile,
  type CheckedPool,
  type DataFile,
  type Disk,
  type MetaStore,
} from '@store/core';
import { SimRandom, simEnv } from '@store/core/sim';
import { PoolUser } from '@store/core/testing';
import { ENGINE_LIMITS, type EngineLimits } from '../engine.js';
import { openFileStore, type FileStore } from '../file-store.js';
import { contentKey, headKey, seal } from '../format.js';
import type { StoredObject } from '../stored-object.js';
import { SimStore } from './sim-store.js';

/** What one opening of the store differs in. */
export interface OpenChanges {
  readonly limits?: Partial<EngineLimits>;
  readonly ignoreFailure?: boolean;
  readonly dataFile?: (file: DataFile) => Partial<DataFile>;
  readonly appendFile?: (file: AppendFile) => Partial<AppendFile>;
  readonly metaStore?: (store: MetaStore) => Partial<MetaStore>;
}

/** A store that is open, and a user of its pool. */
export interface OpenedStory {
  readonly store: FileStore;
  readonly pool: CheckedPool;
  readonly user: PoolUser;
}

export class SimStory extends SimStore {
  #starts = 0;

  /** As `open`, with changes. */
  openWith(changes: OpenChanges = {}): Promise<OpenedStory> {
    return this.wait(() => this.start(changes));
  }

  /** As `openWith`, for a test that lets time pass itself. */
  async start(changes: OpenChanges = {}): Promise<OpenedStory> {
    this.#starts += 1;
    const env = simEnv(this.scheduler, new SimRandom(this.#starts, 6), this.disk);
    const openDisk = (path: string, options: { create: boolean }): Disk =>
      changedDisk(env.openDisk(path, options), changes);
    const store = await openFileStore({ ...env, openDisk }, 'simulated', {
      create: true,
      ignoreFailure: changes.ignoreFailure ?? false,
      onFailure: () => undefined,
      limits: { ...ENGINE_LIMITS, ...changes.limits },
    });
    const pool = await store.openPool('pool', { create: true });
    return { store, pool, user: new PoolUser(pool) };
  }

  /** Writes whole blocks. */
  write({ user }: OpenedStory, ref: ObjectRef, at: number, bytes: Buffer): Promise<void> {
    return this.wait(() => user.write(ref, at * BLOCK_BYTES, bytes));
  }

  /** Reads one block. */
  read({ user }: OpenedStory, ref: ObjectRef, at: number): Promise<Buffer> {
    return this.wait(() => user.read(ref, at * BLOCK_BYTES, BLOCK_BYTES));
  }

  zero({ user }: OpenedStory, ref: ObjectRef, at: number, count: number): Promise<void> {
    return this.wait(() => user.zero(ref, at * BLOCK_BYTES, count * BLOCK_BYTES));
  }

  flush({ user }: OpenedStory): Promise<void> {
    return this.wait(() => user.flush());
  }

  close({ store }: OpenedStory): Promise<void> {
    return this.wait(() => store.close());
  }

  /** Lets so much virtual time pass. */
  async pass(ms: number): Promise<void> {
    const end = this.scheduler.now + ms;
    this.scheduler.at(ms, () => undefined);
    while (this.scheduler.now < end) {
      this.scheduler.step();
      await new Promise(setImmediate);
    }
  }

  /**
   * Changes the head of an object in the first pool, as it is on the medium.
   * @param isSealed - it matches its checksum afterwards: somebody wrote it so
   */
  changeHead(ref: ObjectRef, isSealed: boolean, change: (head: Buffer) => void): void {
    const key = headKey(1, ref.hash, ref.key);
    const before = this.disk.meta.visible.get(key.toString('latin1'));
    if (before === undefined) throw new Error(`There is no head of ${ref.id}`);
    const head = Buffer.from(before);
    change(head);
    if (isSealed) seal(key, head);
    for (const medium of [this.disk.meta.visible, this.disk.meta.durable])
      medium.set(key.toString('latin1'), Buffer.from(head));
  }

  /** Changes what small objects hold, as it is on the medium. */
  changeContents(change: (content: Buffer) => void): void {
    const prefix = contentKey(0).subarray(0, 1).toString('latin1');
    for (const medium of [this.disk.meta.visible, this.disk.meta.durable])
      for (const [key, before] of [...medium].filter(([one]) => one.startsWith(prefix))) {
        const content = Buffer.from(before);
        change(content);
        medium.set(key, content);
      }
  }
}

/** What the store holds in memory of an object in the first pool. */
export function objectOf({ store }: OpenedStory, ref: ObjectRef): StoredObject {
  return store.parts.table.find(1, ref);
}

export function data(name: string, locator: string = name): ObjectRef {
  return new ObjectRef(OBJECT_KIND.imageData, name, locator);
}

export function plain(name: string): ObjectRef {
  return new ObjectRef(OBJECT_KIND.plain, name, name);
}

/** Whole blocks, each filled with `text`; zeros if it is empty. */
export function blocks(text: string, count = 1): Buffer {
  const block = text === '' ? Buffer.alloc(BLOCK_BYTES) : Buffer.alloc(BLOCK_BYTES, text);
  return Buffer.concat(Array<Buffer>(count).fill(block));
}

function changedDisk(disk: Disk, changes: OpenChanges): Disk {
  const { dataFile, appendFile, metaStore } = changes;
  return overridden(disk, {
    openDataFile: (name) => {
      const file = disk.openDataFile(name);
      return dataFile === undefined ? file : overridden(file, dataFile(file));
    },
    openAppendFile: (name) => {
      const file = disk.openAppendFile(name);
      return appendFile === undefined ? file : overridden(file, appendFile(file));
    },
    openMetaStore: (name) => {
      const store = disk.openMetaStore(name);
      return metaStore === undefined ? store : overridden(store, metaStore(store));
    },
  });
}

/** `target` with some members replaced; the others run on `target` itself. */
function overridden<T extends object>(target: T, changes: Partial<T>): T {
  return new Proxy(target, {
    get: (_, name) => {
      const source = name in changes ? changes : target;
      const member: unknown = Reflect.get(source, name, source);
      return typeof member === 'function' ? (member.bind(source) as unknown) : member;
    },
  });
}

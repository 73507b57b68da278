/**
 * A store in one folder: `format` says what it is, `data` holds the slots, `meta` everything else, `live` what a
 * killed process must not lose. FORMAT.md describes every byte.
 */
import {
  DiskError,
  POOL_NAME_BYTES_MAX,
  StoreError,
  errnoOf,
  invariant,
  messageOf,
  promised,
  type CheckedStore,
  type DataFile,
  type Env,
  type MetaStore,
} from '@store/core';
import { ChangeApplier } from './change-applier.js';
import { Checkpointer } from './checkpointer.js';
import { Comparer } from './comparer.js';
import { ENGINE_LIMITS, Engine, FAILED_FILE, type EngineLimits } from './engine.js';
import { FilePool, type FilePoolParts } from './file-pool.js';
import { beginStart, commitRecord, createFolder, isFormatted } from './folder.js';
import {
  LINEAGE_BYTES,
  POOLS_END,
  POOLS_START,
  poolKey,
  poolNameOf,
  sealed,
  unseal,
} from './format.js';
import { HolePuncher } from './hole-puncher.js';
import { continueLineage } from './lineage.js';
import { LiveLog } from './live-log.js';
import { Mender } from './mender.js';
import { ObjectTable } from './object-table.js';
import { Opener } from './opener.js';
import { OpenSet } from './open-set.js';
import { ParkedWrites } from './parked-writes.js';
import { Persister, noSpaceForMetadata } from './persister.js';
import { Reader } from './reader.js';
import { punchFreeSlots, recover } from './recovery.js';
import { stateOf, type StoreState } from './store-state.js';
import { WholeObjects } from './whole-objects.js';
import { Writer } from './writer.js';
import { Zeroer } from './zeroer.js';

/** How long a close waits for operations that cannot come to an end, such as on a full disk. */
const DRAIN_MS_MAX = 10_000;
const DRAIN_STEP_MS = 1;

/** What the names of pools of a cluster begin with: those have copies elsewhere, and versions from a `ChangeTap`. */
export const REPLICATED_PREFIX = '\x01';

function isReplicatedName(name: string): boolean {
  return name.startsWith(REPLICATED_PREFIX);
}

export interface OpenOptions {
  /** Make the folder and format it if there is nothing. */
  readonly create: boolean;
  /** Called once when the disk fails; the process should say so and exit 70. */
  readonly onFailure: (error: StoreError) => void;
  /** Open a folder whose disk has failed: for `store check` only. */
  readonly ignoreFailure?: boolean;
  readonly limits?: EngineLimits;
}

/**
 * Opens the store in a folder and takes the folder for this process.
 * @throws StoreError `E_NOT_FOUND`, `E_IN_USE`, `E_FORMAT`, `E_DISK_FAILED`, `E_SYSTEM`
 */
export async function openFileStore(
  env: Env,
  path: string,
  options: OpenOptions,
): Promise<FileStore> {
  const disk = env.openDisk(path, { create: options.create });
  let data: DataFile | null = null;
  let meta: MetaStore | null = null;
  try {
    disk.lock();
    const failed = disk.readSmallFile(FAILED_FILE);
    if (failed !== null && options.ignoreFailure !== true)
      throw new StoreError(
        'E_DISK_FAILED',
        `The disk under '${path}' failed earlier (${failed.toString().trim()}); mend it, then run: store check --dir ${path}`,
      );
    if (!isFormatted(disk)) await createFolder(env, disk, options.create);
    data = disk.openDataFile('data');
    meta = disk.openMetaStore('meta');
    const { record, wasClean } = await beginStart(env, disk, data, meta);
    const { onFailure, limits = ENGINE_LIMITS } = options;
    const engine = new Engine({ env, disk, data, meta, record, limits, onFailure });
    return await FileStore.start(engine, { wasClean, hadFailed: failed !== null });
  } catch (error) {
    data?.close();
    await meta?.close();
    disk.close();
    if (
      error instanceof DiskError ||
      (!(error instanceof StoreError) && errnoOf(error) !== undefined)
    )
      throw new StoreError('E_SYSTEM', `Cannot open '${path}': ${messageOf(error)}`, {
        cause: error,
      });
    throw error;
  }
}

/** How the last start ended. */
interface LastStart {
  readonly wasClean: boolean;
  /** The disk failed, and `store check` has not accepted it since. */
  readonly hadFailed: boolean;
}

export class FileStore implements CheckedStore {
  readonly engine: Engine;
  /** What it is made of, for `store check` and for tests that plant bugs. */
  readonly parts: FilePoolParts & {
    readonly opener: Opener;
    readonly openSet: OpenSet;
    readonly parked: ParkedWrites;
    readonly holes: HolePuncher;
  };
  /** Answered writes that were not flushed may be gone since the last start. */
  lostUnflushed = false;
  /** 16 bytes: as long as they stay the same, no start of this folder has lost answered writes. See `lineage.ts`. */
  lineage: Buffer = Buffer.alloc(LINEAGE_BYTES);
  readonly #persister: Persister;
  readonly #checkpointer: Checkpointer;
  readonly #pools = new Map<string, FilePool>();
  readonly #creating = new Map<string, Promise<FilePool>>();
  #closed: Promise<void> | null = null;

  /** Recovers, then serves. */
  static async start(engine: Engine, last: LastStart): Promise<FileStore> {
    const store = new FileStore(engine);
    await store.#recover(last);
    engine.meta.opened();
    return store;
  }

  private constructor(engine: Engine) {
    this.engine = engine;
    const table = new ObjectTable(engine);
    const openSet = new OpenSet(engine.env.clock, engine.limits.openObjectsMax);
    const parked = new ParkedWrites(engine);
    const holes = new HolePuncher(engine);
    const persister = new Persister(engine, table, openSet, parked, holes);
    const reader = new Reader(engine, table);
    const opener = new Opener(engine, openSet);
    const writer = new Writer({ engine, table, reader, opener, openSet, parked, persister });
    const zeroer = new Zeroer({ engine, writer, openSet, persister });
    const whole = new WholeObjects({ engine, persister, holes, reader, writer, zeroer });
    const applier = new ChangeApplier({ engine, table, writer, zeroer, whole });
    const comparer = new Comparer({ engine, table, reader, whole, zeroer });
    const mender = new Mender({ engine, table, reader, whole });
    this.#persister = persister;
    this.#checkpointer = new Checkpointer(engine, table, openSet, persister, reader);
    engine.whenFailed.push((failure) => {
      parked.stuck(failure);
      openSet.wakeAll();
    });
    this.parts = {
      engine,
      table,
      reader,
      writer,
      zeroer,
      whole,
      persister,
      applier,
      comparer,
      mender,
      holes,
      opener,
      openSet,
      parked,
    };
  }

  /** 16 bytes, made when the folder was made. */
  get diskId(): Buffer {
    return this.engine.record.diskId;
  }

  /** 16 bytes, new at every start. */
  get startId(): Buffer {
    return this.engine.record.startId;
  }

  /** For metrics. Cheap: nothing is read but the file system's free space. */
  state(): StoreState {
    return stateOf(this.parts);
  }

  async #recover({ wasClean, hadFailed }: LastStart): Promise<void> {
    const { engine } = this;
    const { table } = this.parts;
    engine.live = new LiveLog(engine.disk, engine.disk.bootToken(), engine.record.startId, {
      sequence: engine.record.liveSequence,
      switchBytes: engine.limits.liveBytesSwitch,
    });
    this.#findReplicated();
    const { leftOpen, lostUnflushed } = await recover(engine, table, this.#persister, wasClean);
    // After a failed sync the kernel no longer has what it could not write, though the machine went on.
    this.lostUnflushed = lostUnflushed || (hadFailed && !wasClean);
    if (this.lostUnflushed)
      engine.log.warn(
        { path: engine.disk.path },
        `${lostUnflushed ? 'The machine stopped without warning' : 'The disk had failed'}: writes that were not flushed may be lost`,
      );
    this.lineage = await continueLineage(engine, this.lostUnflushed); // before what shows a loss is gone
    engine.live.restart();
    if (wasClean) await this.#beginUnclean();
    else await punchFreeSlots(engine);
    this.#checkpointer.start(leftOpen);
  }

  /** Before any object is in memory: what recovery makes of versions depends on who gives them. */
  #findReplicated(): void {
    for (const { key, value } of this.engine.meta.range(POOLS_START, POOLS_END, 1_000_000)) {
      const body = unseal(key, value);
      if (body !== null && isReplicatedName(poolNameOf(key)))
        this.parts.table.replicate(body.readUInt32BE(0));
    }
  }

  /** From now on the folder needs `live`, which is begun, and numbers are given out that are not stored. */
  async #beginUnclean(): Promise<void> {
    const { engine } = this;
    engine.record = { ...engine.record, clean: false };
    await commitRecord(engine.meta, engine.storedRecord);
  }

  async openPool(name: string, options: { create: boolean }): Promise<FilePool> {
    if (this.engine.refusal !== null) throw this.engine.refusal;
    const bytes = Buffer.byteLength(name);
    if (bytes < 1 || bytes > POOL_NAME_BYTES_MAX || name.includes('\0'))
      throw new StoreError(
        'E_INVALID',
        `A pool name has 1 to ${POOL_NAME_BYTES_MAX} bytes and no NUL, this one has ${bytes}`,
      );
    const known = this.#pools.get(name) ?? this.#creating.get(name);
    if (known !== undefined) return known;
    const key = poolKey(name);
    const value = this.engine.meta.get(key);
    if (value !== null) {
      const body = unseal(key, value);
      if (body === null)
        throw new StoreError(
          'E_CHECKSUM',
          `The record of pool '${name}' does not match its checksum`,
        );
      return this.#addPool(name, body.readUInt32BE(0));
    }
    if (!options.create)
      throw new StoreError(
        'E_NOT_FOUND',
        `There is no pool '${name}' under '${this.engine.disk.path}'; check the name, or make it with its first image: store-image create --dir ${this.engine.disk.path} --pool ${name} IMAGE --size 10G`,
      );
    const creating = this.#createPool(name, key);
    this.#creating.set(name, creating);
    try {
      return await creating;
    } finally {
      this.#creating.delete(name);
    }
  }

  /**
   * Removes all that a pool holds, durably; the pool stays, empty. Nobody may use it meanwhile.
   * @throws StoreError `E_NOT_FOUND`
   */
  async clearPool(name: string): Promise<number> {
    await this.openPool(name, { create: false });
    return this.#pools.get(name)?.clear() ?? 0;
  }

  listPools(): Promise<string[]> {
    const { refusal, meta } = this.engine;
    if (refusal !== null) return Promise.reject(refusal);
    const entries = meta.range(POOLS_START, POOLS_END, 1_000_000);
    return Promise.resolve(entries.map(({ key }) => poolNameOf(key)));
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    const { engine } = this;
    engine.isClosing = true;
    try {
      // Some may wait for objects to be closed, so that goes on until they are through.
      await this.#drain();
      this.#checkpointer.stop();
      await this.#drain();
      engine.isDrained = true;
      this.parts.openSet.wakeAll();
      if (engine.failure === null) {
        await promised((done) => this.#persister.flush(done));
        await promised((done) => this.#checkpointer.closeAll(done));
        await this.#sayGoodbye();
      }
      await this.#drain();
    } finally {
      engine.isClosed = true;
      engine.failure ??= engine.closedError();
      engine.live.close();
      await engine.meta.close();
      engine.data.close();
      engine.disk.close();
    }
  }

  /** Waits until what was begun has come to its end. */
  async #drain(): Promise<void> {
    const { engine } = this;
    const start = engine.env.clock.now();
    while (!this.#isIdle()) {
      if (engine.env.clock.now() - start > DRAIN_MS_MAX) {
        engine.log.warn(
          { path: engine.disk.path },
          'Closing although operations are still waiting',
        );
        return;
      }
      await engine.env.timers.sleep(DRAIN_STEP_MS);
    }
  }

  #isIdle(): boolean {
    const { engine, table, parked } = this.parts;
    if (parked.count > 0 && engine.failure === null) return false;
    if (
      !this.#persister.isIdle ||
      !this.parts.holes.isIdle ||
      !this.#checkpointer.isIdle ||
      !engine.committer.idle
    )
      return false;
    for (const object of table.objects()) if (!object.locks.idle) return engine.failure !== null;
    return true;
  }

  /** Marks the folder as clean if nothing lives in memory or `live` alone. */
  async #sayGoodbye(): Promise<void> {
    const { engine } = this;
    if (this.#persister.hasChanges) return;
    engine.record = { ...engine.record, clean: true, liveSequence: engine.live.sequence };
    await new Promise<void>((resolve, reject) => {
      engine.committer.add({
        build: () => undefined,
        committed: (error) => {
          if (engine.failure !== null) reject(engine.failure);
          else {
            // Refused for lack of space: the next start takes everything over as after a kill.
            if (error !== null)
              engine.log.warn(
                { path: engine.disk.path },
                noSpaceForMetadata(engine.disk.path).message,
              );
            resolve();
          }
        },
      });
    });
  }

  #addPool(name: string, id: number): FilePool {
    if (isReplicatedName(name)) this.parts.table.replicate(id);
    const pool = new FilePool(name, id, this.parts);
    this.#pools.set(name, pool);
    return pool;
  }

  #createPool(name: string, key: Buffer): Promise<FilePool> {
    const { engine } = this;
    const id = engine.record.nextPoolId;
    invariant(id < 0xffffffff, 'pool ids fit into 32 bits');
    engine.record = { ...engine.record, nextPoolId: id + 1 };
    const body = Buffer.alloc(4);
    body.writeUInt32BE(id);
    return new Promise((resolve, reject) => {
      engine.committer.add({
        build: (transaction) => transaction.change(key, sealed(key, body)),
        committed: (error) => {
          if (error === null) resolve(this.#addPool(name, id));
          else
            reject(
              engine.failure ??
                new StoreError(
                  'E_NO_SPACE',
                  `No space to make pool '${name}'; free some and try again`,
                ),
            );
        },
      });
    });
  }
}

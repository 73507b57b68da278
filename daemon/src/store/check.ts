/**
 * `store check`: reads everything and compares it with its checksums, from the disk and not from memory. The only way
 * back for a folder whose disk has failed.
 */
import {
  BLOCK_BYTES,
  BLOCK_STATE,
  OBJECT_KIND,
  promised,
  type Env,
  type StoreError,
} from '@store/core';
import { FAILED_FILE } from './engine.js';
import { openFileStore, type FileStore } from './file-store.js';
import {
  BLOCKS_PER_PART,
  PARTS_PER_OBJECT,
  POOLS_END,
  POOLS_START,
  poolNameOf,
  unseal,
} from './format.js';
import { printable } from './object-table.js';
import { forEachHead } from './recovery.js';
import { PART, type StoredObject } from './stored-object.js';

export interface CheckOptions {
  /** Let the folder be used again although something is damaged: damaged blocks go on answering errors. */
  readonly acceptDamage: boolean;
  readonly onProgress: (done: number, total: number) => void;
}

export interface CheckReport {
  readonly objects: number;
  readonly verifiedBytes: number;
  /** Written just before a crash: nothing to compare with. */
  readonly unverifiedBytes: number;
  /** One line for each damaged block or record. */
  readonly damage: readonly string[];
  /** The folder was marked as failed before. */
  readonly hadFailed: boolean;
  /** The folder can be used. */
  readonly isUsable: boolean;
}

/**
 * Checks the store in a folder, which nobody may have open.
 * @throws StoreError as `openFileStore`
 */
export async function checkFolder(
  env: Env,
  path: string,
  options: CheckOptions,
): Promise<CheckReport> {
  const failed: { error: StoreError | null } = { error: null };
  const store = await openFileStore(env, path, {
    create: false,
    ignoreFailure: true,
    onFailure: (error) => {
      failed.error = error;
    },
  });
  const { disk } = store.engine;
  const hadFailed = disk.readSmallFile(FAILED_FILE) !== null;
  try {
    store.engine.data.dropCache();
    const report = await checkObjects(store, options.onProgress);
    const isUsable = failed.error === null && (report.damage.length === 0 || options.acceptDamage);
    if (hadFailed && isUsable) disk.removeSmallFile(FAILED_FILE);
    return { ...report, hadFailed, isUsable: isUsable || (failed.error === null && !hadFailed) };
  } finally {
    await store.close();
  }
}

async function checkObjects(
  store: FileStore,
  onProgress: CheckOptions['onProgress'],
): Promise<Omit<CheckReport, 'hadFailed' | 'isUsable'>> {
  const keys: Buffer[] = [];
  forEachHead(store.engine, (key) => keys.push(key));
  const damage = damagedPools(store);
  let verifiedBytes = 0;
  let unverifiedBytes = 0;
  for (const [index, key] of keys.entries()) {
    const object = store.parts.table.findByHeadKey(key, OBJECT_KIND.plain);
    if (object.broken !== null) damage.push(object.broken.message);
    else if (object.inline) verifiedBytes += await checkContent(store, object, damage);
    else {
      for (let part = 0; part < PARTS_PER_OBJECT; part += 1) {
        const dataBlocks = countData(object, part);
        if (dataBlocks === 0) continue;
        if (object.parts[part] === PART.suspect) unverifiedBytes += dataBlocks * BLOCK_BYTES;
        else verifiedBytes += dataBlocks * BLOCK_BYTES;
        await checkPart(store, object, part, damage);
      }
    }
    onProgress(index + 1, keys.length);
  }
  return { objects: keys.length, verifiedBytes, unverifiedBytes, damage };
}

function damagedPools(store: FileStore): string[] {
  const damage: string[] = [];
  for (const { key, value } of store.engine.meta.range(POOLS_START, POOLS_END, Infinity))
    if (unseal(key, value) === null)
      damage.push(`The record of pool '${poolNameOf(key)}' does not match its checksum`);
  return damage;
}

/** Reads a part at once, and block by block if something is wrong with it. */
async function checkPart(
  store: FileStore,
  object: StoredObject,
  part: number,
  damage: string[],
): Promise<void> {
  const first = part * BLOCKS_PER_PART;
  const all = await readProblem(store, object, first, BLOCKS_PER_PART);
  if (all === null) return;
  for (let block = first; block < first + BLOCKS_PER_PART; block += 1) {
    const problem = await readProblem(store, object, block, 1);
    if (problem !== null) damage.push(problem);
  }
}

async function readProblem(
  store: FileStore,
  object: StoredObject,
  first: number,
  count: number,
): Promise<string | null> {
  const target = Buffer.allocUnsafe(count * BLOCK_BYTES);
  try {
    await promised((done) => store.parts.reader.read(object, first * BLOCK_BYTES, target, done));
    return null;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

async function checkContent(
  store: FileStore,
  object: StoredObject,
  damage: string[],
): Promise<number> {
  const target = Buffer.allocUnsafe(object.length);
  try {
    await promised((done) => store.parts.whole.read(object, 0, target, done));
  } catch (error) {
    damage.push(
      error instanceof Error ? error.message : `Object '${printable(object.name)}' cannot be read`,
    );
  }
  return object.length;
}

function countData(object: StoredObject, part: number): number {
  let count = 0;
  for (let block = part * BLOCKS_PER_PART; block < (part + 1) * BLOCKS_PER_PART; block += 1)
    if (object.states[block] === BLOCK_STATE.data) count += 1;
  return count;
}

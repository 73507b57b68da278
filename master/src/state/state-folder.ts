/** Making a folder into a state store of a master, and knowing one. */
import { DiskError, StoreError, type Disk, type Env, type MetaStore } from '@store/core';
import { encodeRecord, HEAD_KEY, STATE_FORMAT_VERSION } from './state-record.js';

/** Written last when a folder is made: its presence says that the rest is complete. */
const FORMAT_FILE = 'format';
const MAKING_FILE = 'format.making';
const META_NAME = 'state';

export interface StateFolder {
  readonly disk: Disk;
  readonly meta: MetaStore;
}

/**
 * Opens the folder, which is this process's until both are closed. Killed while it makes one, it is done again.
 * @param create - Make it if there is none.
 * @throws StoreError `E_IN_USE`, `E_FORMAT`, `E_NOT_FOUND`, `E_NO_SPACE`, `E_DISK_FAILED`
 */
export async function openStateFolder(
  env: Env,
  path: string,
  options: { create: boolean },
): Promise<StateFolder> {
  const disk = env.openDisk(path, options);
  let meta: MetaStore | null = null;
  try {
    disk.lock();
    const isMade = isFormatted(disk);
    if (!isMade) checkMayMake(disk, options.create);
    meta = disk.openMetaStore(META_NAME);
    if (!isMade) await make(env, disk, meta);
    return { disk, meta };
  } catch (error) {
    await meta?.close();
    disk.close();
    throw error instanceof DiskError ? stateDiskError(path, error) : error;
  }
}

/** What a disk's error means to whoever uses the store. */
export function stateDiskError(path: string, error: DiskError): StoreError {
  return error.errno === 'ENOSPC'
    ? new StoreError('E_NO_SPACE', `'${path}' is full, and nothing was changed; free some space`, {
        cause: error,
      })
    : new StoreError(
        'E_DISK_FAILED',
        `The disk of '${path}' failed (${error.message}); check it, then start the master again`,
        { cause: error },
      );
}

function isFormatted(disk: Disk): boolean {
  const text = disk.readSmallFile(FORMAT_FILE)?.toString();
  if (text === undefined) return false;
  const version = /^store-state (\d+)\n/.exec(text)?.[1];
  if (version === String(STATE_FORMAT_VERSION)) return true;
  throw new StoreError('E_FORMAT', `'${disk.path}' ${otherFormat(text, version)}`);
}

function otherFormat(text: string, version: string | undefined): string {
  if (version !== undefined)
    return `has version ${version} of the masters' state, and this program knows version ${STATE_FORMAT_VERSION}; start a release that wrote it`;
  return text.startsWith('store ')
    ? 'holds the objects of a daemon; choose another folder for the state of the master'
    : "holds a file `format` that this program did not write; choose another folder for the master's state";
}

function checkMayMake(disk: Disk, create: boolean): void {
  if (!create)
    throw new StoreError('E_NOT_FOUND', `There is no state of a master in '${disk.path}'`);
  if (!disk.isEmpty() && disk.readSmallFile(MAKING_FILE) === null)
    throw new StoreError(
      'E_FORMAT',
      `'${disk.path}' holds something else than the state of a master; choose an empty folder`,
    );
  disk.writeSmallFile(MAKING_FILE, Buffer.from('The state of a master is being made here.\n'));
}

async function make(env: Env, disk: Disk, meta: MetaStore): Promise<void> {
  const head = encodeRecord(HEAD_KEY, { revision: 0, isLeased: false, value: Buffer.alloc(0) });
  await new Promise<void>((resolve, reject) => {
    meta.commit([{ key: HEAD_KEY, value: head }], (error) =>
      error === null ? resolve() : reject(error),
    );
  });
  disk.writeSmallFile(
    FORMAT_FILE,
    Buffer.from(`store-state ${STATE_FORMAT_VERSION}\nmade ${env.clock.wallTime()}\n`),
  );
  disk.removeSmallFile(MAKING_FILE);
}

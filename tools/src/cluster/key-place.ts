/** Where the key of a client goes: looked at before the master makes it, for it is shown this once. */
import { constants } from 'node:fs';
import { access, lstat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { ClientKey, errnoOf, messageOf, SECRET_FILE_BYTES_MAX, StoreError } from '@store/core';
import { fileNameOf } from '../file-name.js';
import { readTextFile } from '../read-text-file.js';

const REMEDY = 'say where to with --out FILE';

/** @throws UsageError if the name is not fit for a file and no place was given */
export function keyPath(client: string, out: string | null): string {
  return out ?? fileNameOf('client', client, '.key', REMEDY);
}

/** @throws StoreError if there is something, or nothing can be made there */
export async function needFreePlace(path: string): Promise<void> {
  if (await isThere(path))
    throw new StoreError(
      'E_EXISTS',
      `${path} is there already, and is left as it is; choose another place with --out FILE`,
    );
  await needFolder(path);
}

/** A key of the same client may be there, and will be replaced. @throws StoreError */
export async function needReplaceable(path: string, client: string): Promise<void> {
  if (await isThere(path)) {
    const { text } = await readTextFile(path, SECRET_FILE_BYTES_MAX);
    const kept = keyIn(path, text);
    if (kept !== client)
      throw new StoreError(
        'E_EXISTS',
        `${path} is no key of client '${client}', and is left as it is; choose another place with --out FILE`,
      );
  }
  await needFolder(path);
}

function keyIn(path: string, text: string): string | null {
  try {
    return ClientKey.parse(path, text).client;
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
    return null;
  }
}

async function isThere(path: string): Promise<boolean> {
  try {
    await lstat(path);
    return true;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false;
    throw cannotWrite(path, error);
  }
}

async function needFolder(path: string): Promise<void> {
  try {
    await access(dirname(path), constants.W_OK);
  } catch (error) {
    throw cannotWrite(path, error);
  }
}

function cannotWrite(path: string, error: unknown): StoreError {
  return new StoreError('E_SYSTEM', `Cannot write ${path}: ${messageOf(error)}; ${REMEDY}`, {
    cause: error,
  });
}

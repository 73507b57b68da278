/** Writes files that nothing may be lost by: an existing one is kept, a new one is whole and on the disk. */
import { randomBytes } from 'node:crypto';
import { open, rename, unlink, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { errnoOf, messageOf, StoreError } from '@store/core';

/** For its owner alone. */
export const PRIVATE_MODE = 0o600;
/** For everybody to read. */
export const PUBLIC_MODE = 0o644;

/**
 * Makes a file with exactly this mode.
 * @param replaces - Takes the place of an existing file, at once and as a whole.
 * @throws StoreError `E_EXISTS` if there is one and `replaces` is false; `E_SYSTEM` if it cannot be written
 */
export async function writeNewFile(
  path: string,
  text: string,
  { mode, replaces = false }: { mode: number; replaces?: boolean },
): Promise<void> {
  try {
    const first = replaces ? `${path}.${randomBytes(6).toString('hex')}.new` : path;
    await create(first, text, mode);
    if (replaces) await orUnlink(first, () => rename(first, path));
    await syncFolder(dirname(path));
  } catch (error) {
    if (errnoOf(error) === 'EEXIST')
      throw new StoreError('E_EXISTS', `${path} is there already, and is left as it is`);
    throw new StoreError('E_SYSTEM', `Cannot write ${path}: ${messageOf(error)}`, { cause: error });
  }
}

/** A symbolic link in its place is refused like a file: nobody chooses for us what is written to. */
async function create(path: string, text: string, mode: number): Promise<void> {
  const file = await open(path, 'wx', mode);
  await orUnlink(path, () => fill(file, text, mode));
}

async function fill(file: FileHandle, text: string, mode: number): Promise<void> {
  try {
    await file.chmod(mode); // whatever the umask took away
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Takes back the file that was made if `work` fails. */
async function orUnlink(path: string, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    await unlink(path);
    throw error;
  }
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/**
 * The generations of a pool's secret, a file each: `P.secret`, and beside it `P.secret.2`, `P.secret.3` and so on.
 * Nothing is renamed or overwritten when a generation is added: daemons and whoever makes tickets change over to it
 * one by one, and the old file goes when its last ticket has expired.
 */
import { readdir } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { errnoOf, messageOf, PoolSecret, SECRET_FILE_BYTES_MAX, StoreError } from '@store/core';
import { readTextFile } from '../read-text-file.js';

/** A secret and where it is. */
export interface KeptSecret {
  readonly path: string;
  readonly secret: PoolSecret;
}

/** Reads the secret at `path`. @throws StoreError `E_SYSTEM`, `E_INVALID` */
export async function readSecret(path: string): Promise<KeptSecret> {
  const { text } = await readTextFile(path, SECRET_FILE_BYTES_MAX);
  return { path, secret: PoolSecret.parse(path, text) };
}

/**
 * All generations that are kept at `path` and beside it, the oldest first; maybe none.
 * @throws StoreError `E_INVALID` if one of the files is none, or of another pool than `pool`
 */
export async function readGenerations(path: string, pool: string): Promise<KeptSecret[]> {
  const kept: KeptSecret[] = [];
  for (const file of await filesOf(path)) {
    const one = await readSecret(file);
    checkPool(one, pool);
    kept.push(one);
  }
  return kept.sort((a, b) => a.secret.generation - b.secret.generation);
}

/** @throws StoreError `E_INVALID` if the secret is not of `pool` */
export function checkPool({ path, secret }: KeptSecret, pool: string): void {
  if (secret.pool !== pool)
    throw new StoreError(
      'E_INVALID',
      `${path} is the secret of pool ${JSON.stringify(secret.pool)}, not of ${JSON.stringify(pool)}`,
    );
}

/** Where a later generation goes. */
export function pathOfGeneration(path: string, generation: number): string {
  return `${path}.${generation}`;
}

async function filesOf(path: string): Promise<string[]> {
  const folder = dirname(path);
  const first = basename(path);
  let names: string[];
  try {
    names = await readdir(folder);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw new StoreError('E_SYSTEM', `Cannot look into ${folder}: ${messageOf(error)}`, {
      cause: error,
    });
  }
  return names
    .filter(
      (name) =>
        name === first ||
        (name.startsWith(`${first}.`) && /^[1-9]\d{0,9}$/.test(name.slice(first.length + 1))),
    )
    .map((name) => join(folder, name));
}

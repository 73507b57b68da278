import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { repositoryFolder } from '../server/store-programs.js';

/** Folders with many hundreds of real files of all sizes, there wherever the tests run. */
export const realFolders: readonly string[] = ['fast-check', '@types/node', 'eslint/lib'].map(
  (name) => join(repositoryFolder, 'node_modules', name),
);

/** SHA-256 of every file below a folder, as `sha256sum` prints it, sorted by name. */
export function hashTree(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .map((path) => `${sha256(path)}  ${path.slice(folder.length + 1)}`)
    .sort();
}

function sha256(path: string): string {
  return createHash('sha256').update(readFileSync(path)).digest('hex');
}

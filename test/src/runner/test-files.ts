import { existsSync, readdirSync } from 'node:fs';
import { join, relative } from 'node:path';

/** A compiled test program. */
export interface TestFile {
  /** Where it is, absolute. */
  readonly path: string;
  /** How people name it: its source, relative to the repository. */
  readonly source: string;
  /** System tests start processes and mount filesystems: no more than one of a kind runs at a time, see `main.ts`. */
  readonly system: boolean;
}

const SYSTEM_FOLDER = join('test', 'src', 'system');

/**
 * Finds the compiled tests of all packages, unit tests first, by name. What was compiled from a source that
 * is gone does not count.
 * @param root - The repository.
 * @param wanted - Parts of source names; empty for all.
 */
export function findTestFiles(root: string, wanted: readonly string[]): TestFile[] {
  const found: TestFile[] = [];
  for (const entry of readdirSync(root, { withFileTypes: true })) {
    const folder = join(root, entry.name, 'dist');
    if (!entry.isDirectory() || entry.name === 'node_modules' || !existsSync(folder)) continue;
    for (const name of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
      if (!name.endsWith('.test.js')) continue;
      const source = join(entry.name, 'src', name.replace(/\.js$/, '.ts'));
      if (!existsSync(join(root, source))) continue;
      found.push({ path: join(folder, name), source, system: source.startsWith(SYSTEM_FOLDER) });
    }
  }
  found.sort((a, b) => Number(a.system) - Number(b.system) || (a.source < b.source ? -1 : 1));
  if (wanted.length === 0) return found;
  return found.filter((file) => wanted.some((part) => matches(root, file, part)));
}

function matches(root: string, file: TestFile, part: string): boolean {
  return file.source.includes(part) || relative(root, file.path).includes(part);
}

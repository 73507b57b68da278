import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** The part of a test that undoes things. */
export interface HasTeardown {
  teardown(undo: () => unknown): void;
}

/** Makes a folder that goes away with the test. */
export function tempFolder(t: HasTeardown, name = 'store'): string {
  const folder = mkdtempSync(join(tmpdir(), `${name}-`));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

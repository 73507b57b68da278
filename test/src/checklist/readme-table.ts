import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { repositoryFolder } from '../server/store-programs.js';
import { CHECKLIST } from './checklist-ids.js';
import { collectProofs, withTable, type TestSource } from './checklist-table.js';

export const README_PATH: string = join(repositoryFolder, 'gateway-nbd', 'README.md');

/** Every test of the repository but the one of the table itself, whose texts only look like tests. */
export function testSources(): TestSource[] {
  return readdirSync(repositoryFolder, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && entry.name !== 'node_modules')
    .filter(({ name }) => existsSync(join(repositoryFolder, name, 'src')))
    .flatMap(({ name }) =>
      readdirSync(join(repositoryFolder, name, 'src'), { recursive: true, encoding: 'utf8' })
        .filter(
          (path) => path.endsWith('.test.ts') && !path.startsWith('checklist/checklist-table'),
        )
        .map((path) => `${name}/src/${path}`),
    )
    .sort()
    .map((path) => ({ path, text: readFileSync(join(repositoryFolder, path), 'utf8') }));
}

/** gateway-nbd/README.md as it is, and as it should be. */
export function readmeTexts(): { found: string; wanted: string } {
  const found = readFileSync(README_PATH, 'utf8');
  return { found, wanted: withTable(found, CHECKLIST, collectProofs(testSources())) };
}

/** Takes command lines out of documents, so that tests run what people read. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { repositoryFolder } from '../server/store-programs.js';

/**
 * The first block of shell below a heading.
 * @param document - Relative to the repository: `README.md`.
 * @param heading - As it stands there, with its `#`.
 * @throws Error if there is none before the next heading of that level
 */
export function shellLines(document: string, heading: string): string {
  const text = readFileSync(join(repositoryFolder, document), 'utf8');
  const [, after] = text.split(`\n${heading}\n`);
  const level = /^#+/.exec(heading)?.[0] ?? '';
  const [section = ''] = (after ?? '').split(`\n${level} `);
  const lines = /\n```sh\n([^]*?)\n```\n/.exec(section)?.[1];
  if (lines === undefined) throw new Error(`No shell lines below '${heading}' in ${document}`);
  return lines;
}

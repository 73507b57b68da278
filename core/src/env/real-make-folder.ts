/** Makes a folder and those it lies in. */
import fs from 'node:fs';
import path from 'node:path';
import { errnoOf } from '../util/errors.js';

/**
 * As `mkdir -p`. Node's own `recursive` tries for ever where the parent is there and the kernel says that it is not, as
 * in /proc (seen with Node 20.20: a busy loop that no signal ends).
 * @param mode - Of the folders that are made
 * @throws Error of the operating system; `EEXIST` if something else has the name
 */
export function makeFolder(name: string, mode: number): void {
  const folder = path.resolve(name);
  try {
    fs.mkdirSync(folder, { mode });
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'EEXIST' && fs.statSync(folder).isDirectory()) return;
    const parent = path.dirname(folder);
    if (errno !== 'ENOENT' || parent === folder || fs.existsSync(parent)) throw error;
    makeFolder(parent, mode);
    makeFolder(folder, mode);
  }
}

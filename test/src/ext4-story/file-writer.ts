import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '../host/command.js';
import { waitUntil } from '../host/wait-until.js';

/** Writes one file after the other, syncs each, and only then notes its hash. The first error is the end of it. */
export class FileWriter {
  error: unknown = null;
  readonly #folder: string;
  /** Of the files that were synced, by their number. */
  readonly #hashes: string[] = [];
  #stopped = false;

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** How many files were synced. */
  get count(): number {
    return this.#hashes.length;
  }

  stop(): void {
    this.#stopped = true;
  }

  /** The system calls are made by another process, so that this one can restart the server meanwhile. */
  async run(): Promise<void> {
    while (!this.#stopped && this.error === null)
      try {
        const name = this.#path(this.count);
        const input = content(this.count);
        await run('dd', [`of=${name}`, 'conv=fsync', 'bs=64k', 'status=none'], { input });
        this.#hashes.push(hash(input));
      } catch (error) {
        this.error = error;
      }
  }

  /** Waits until it has synced a file that it had not begun when this was called, or has failed. */
  async goesOn(limitMs: number): Promise<void> {
    const enough = this.count + 2; // the next one may have been on its way
    await waitUntil('the writer to go on', limitMs, () => {
      return this.count >= enough || this.error !== null;
    });
  }

  /** Files that do not hold what was written. */
  lost(): number[] {
    return this.#hashes.flatMap((expected, index) =>
      hash(readFileSync(this.#path(index))) === expected ? [] : [index],
    );
  }

  #path(index: number): string {
    return join(this.#folder, `${index}`);
  }
}

function content(index: number): string {
  return `file ${index}\n`.repeat(5000 + (index % 7) * 1000);
}

function hash(data: string | Buffer): string {
  return createHash('sha256').update(data).digest('hex');
}

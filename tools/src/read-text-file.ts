/** Reads files that somebody named on the command line, whatever they turn out to be. */
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { messageOf, StoreError } from '@store/core';

export interface TextFile {
  readonly text: string;
  /** The permissions, the lowest 9 bits. */
  readonly mode: number;
}

/**
 * The text of a file of at most `bytesMax` bytes.
 * @throws StoreError `E_SYSTEM` if it cannot be read, `E_INVALID` if it is no text of that size
 */
export async function readTextFile(path: string, bytesMax: number): Promise<TextFile> {
  try {
    // A pipe would make us wait for its writer.
    const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const stat = await file.stat();
      if (!stat.isFile()) throw new StoreError('E_INVALID', `${path} is not a file`);
      if (stat.size > bytesMax)
        throw new StoreError(
          'E_INVALID',
          `${path} has more than ${bytesMax} bytes: something else`,
        );
      return { text: decode(path, await file.readFile()), mode: stat.mode & 0o777 };
    } finally {
      await file.close();
    }
  } catch (error) {
    if (error instanceof StoreError) throw error;
    throw new StoreError('E_SYSTEM', `Cannot read ${path}: ${messageOf(error)}`, { cause: error });
  }
}

function decode(path: string, bytes: Buffer): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    throw new StoreError('E_INVALID', `${path} is not text`, { cause: error });
  }
}

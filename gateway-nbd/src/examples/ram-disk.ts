/**
 * An NBD server in thirty lines: the smallest backend there is, and how it is served.
 *
 *     node gateway-nbd/dist/examples/ram-disk.js 64
 *     nbdinfo nbd://127.0.0.1
 */
import { BLOCK_STATE, type Done, type DoneWith, type Extent } from '@store/core';
import { serveNbd, type Backend } from '../index.js';

/** A disk in memory. Everything is answered before the call returns. */
export class RamDisk implements Backend {
  readonly bytes: number;
  readonly readOnly = false;
  readonly #data: Buffer;

  constructor(bytes: number) {
    this.bytes = bytes;
    this.#data = Buffer.alloc(bytes);
  }

  read(offset: number, target: Buffer, done: Done): void {
    this.#data.copy(target, 0, offset);
    done(null);
  }

  write(offset: number, parts: readonly Buffer[], _flags: number, done: Done): void {
    let at = offset;
    for (const part of parts) at += part.copy(this.#data, at);
    done(null);
  }

  zero(offset: number, bytes: number, _flags: number, done: Done): void {
    this.#data.fill(0, offset, offset + bytes);
    done(null);
  }

  flush(done: Done): void {
    done(null);
  }

  prefetch(_offset: number, _bytes: number, done: Done): void {
    done(null);
  }

  extents(_offset: number, bytes: number, done: DoneWith<Extent[]>): void {
    done(null, [{ bytes, state: BLOCK_STATE.data }]);
  }
}

/** Serves `mebibytes` of memory on the usual port until the process ends. */
async function main(mebibytes: number): Promise<void> {
  const server = await serveNbd(new RamDisk(mebibytes * 1024 * 1024), {
    address: { host: '127.0.0.1', port: 10809 },
  });
  console.log(server.uri(''));
}

const [, program, mebibytes] = process.argv;
if (program?.endsWith('ram-disk.js') === true) await main(Number(mebibytes ?? 64));

import { BLOCK_STATE, type BlockState, type Done, type DoneWith, type Extent } from '@store/core';
import type { Backend, ExportCatalog } from './backend.js';
import { factsOf } from './catalog-of-one.js';

const CHUNK_BYTES = 64 * 1024;

/** A sparse block device in memory, for tests and measurements. It answers before the call returns. */
export class MemoryBackend implements Backend {
  readonly bytes: number;
  readonly readOnly: boolean;
  readonly fastZeroBytes: number = 1;
  readonly #chunks = new Map<number, Buffer>();

  constructor(bytes: number, options: { readOnly?: boolean } = {}) {
    this.bytes = bytes;
    this.readOnly = options.readOnly ?? false;
  }

  read(offset: number, target: Buffer, done: Done): void {
    this.#eachChunk(offset, target.length, (index, from, to, at) => {
      const chunk = this.#chunks.get(index);
      if (chunk === undefined) target.fill(0, at, at + to - from);
      else chunk.copy(target, at, from, to);
    });
    done(null);
  }

  write(offset: number, parts: readonly Buffer[], _flags: number, done: Done): void {
    let partOffset = offset;
    for (const part of parts) {
      this.#eachChunk(partOffset, part.length, (index, from, to, at) => {
        let chunk = this.#chunks.get(index);
        if (chunk === undefined) {
          chunk = Buffer.alloc(CHUNK_BYTES);
          this.#chunks.set(index, chunk);
        }
        part.copy(chunk, from, at, at + to - from);
      });
      partOffset += part.length;
    }
    done(null);
  }

  zero(offset: number, bytes: number, _flags: number, done: Done): void {
    const end = offset + bytes;
    // What is stored may be far less than the range.
    for (const [index, chunk] of this.#chunks) {
      const from = Math.max(0, offset - index * CHUNK_BYTES);
      const to = Math.min(CHUNK_BYTES, end - index * CHUNK_BYTES);
      if (from === 0 && to === CHUNK_BYTES) this.#chunks.delete(index);
      else if (from < to) chunk.fill(0, from, to);
    }
    done(null);
  }

  flush(done: Done): void {
    done(null);
  }

  prefetch(_offset: number, _bytes: number, done: Done): void {
    done(null);
  }

  extents(offset: number, bytes: number, done: DoneWith<Extent[]>): void {
    const runs: { bytes: number; state: BlockState }[] = [];
    this.#eachChunk(offset, bytes, (index, from, to) => {
      const state = this.#chunks.has(index) ? BLOCK_STATE.data : BLOCK_STATE.absent;
      const last = runs.at(-1);
      if (last?.state === state) last.bytes += to - from;
      else runs.push({ bytes: to - from, state });
    });
    done(null, runs);
  }

  /** Calls `visit(chunk index, from, to, at)` for each piece: bytes from..to of the chunk, `at` in the caller's. */
  #eachChunk(
    offset: number,
    bytes: number,
    visit: (index: number, from: number, to: number, at: number) => void,
  ): void {
    let at = 0;
    while (at < bytes) {
      const index = Math.floor((offset + at) / CHUNK_BYTES);
      const from = offset + at - index * CHUNK_BYTES;
      const to = Math.min(CHUNK_BYTES, from + bytes - at);
      visit(index, from, to, at);
      at += to - from;
    }
  }
}

/** A catalog of devices that are there already; the first one is also the default export. */
export function memoryCatalog(devices: Readonly<Record<string, Backend>>): ExportCatalog {
  const byName = new Map(Object.entries(devices)); // a client may ask for `constructor`
  const find = (name: string): Backend | undefined =>
    name === '' ? Object.values(devices)[0] : byName.get(name);
  return {
    list: () =>
      Promise.resolve(Object.keys(devices).map((name) => ({ name, description: 'in memory' }))),
    info: (name) => {
      const backend = find(name);
      if (backend === undefined) return Promise.resolve(null);
      return Promise.resolve(factsOf(backend, 'in memory'));
    },
    open: (name) => {
      const backend = find(name);
      if (backend === undefined) return Promise.resolve(null);
      return Promise.resolve({ backend, close: () => Promise.resolve() });
    },
  };
}

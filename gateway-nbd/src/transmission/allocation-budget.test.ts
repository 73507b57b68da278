/**
 * What a request may allocate, and keep. Not time, which depends on the machine and its mood: bytes on the heap for each request,
 * which do not. A test that fails here says that the hot path got dearer; `node --heap-prof` says where.
 */
import { silentLog, type Connection, type Done } from '@store/core';
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import type { Backend } from '../backend.js';
import { MemoryBackend } from '../memory-backend.js';
import { NBD_CMD } from '../protocol/constants.js';
import { SERVER_LIMITS } from '../protocol/limits.js';
import { Stats } from '../stats.js';
import { compactRequest } from '../testing/wire.js';
import { BufferPool } from '@store/core';
import { ServerBudget } from '@store/core';
import { Transmission } from './transmission.js';

/** Heap bytes for each request, measured 595-645 and 859-1030. Lower these when it gets less. */
const READ_BYTES_MAX = 800;
const WRITE_BYTES_MAX = 1150;

const MIB = 2 ** 20;
const BLOCK = 4096;
const DEPTH = 32;
const WARM_UP_CHUNKS = 4000;
const CHUNKS = 400;
const WINDOWS = 5;

/** A connection whose peer takes everything at once. */
class TakingConnection implements Connection {
  readonly peer = 'test';
  readonly unsentBytes = 0;
  readonly descriptor = null;
  takenBytes = 0;
  start(): void {
    // nothing arrives by itself
  }
  write(parts: readonly Buffer[]): boolean {
    for (const part of parts) this.takenBytes += part.length;
    return true;
  }
  pause(): void {
    // it sends only when it is told to
  }
  resume(): void {
    // likewise
  }
  end(): void {
    // nobody listens
  }
  destroy(): void {
    // likewise
  }
  startTls(): Promise<never> {
    return Promise.reject(new Error('it has no TLS'));
  }
  startTlsClient(): Promise<never> {
    return Promise.reject(new Error('it has no TLS'));
  }
  exportKey(): null {
    return null;
  }
  release(): null {
    return null;
  }
}

/** As a backend far away: answers what it was asked when it is told to. */
class LateBackend extends MemoryBackend {
  readonly #late: (() => void)[] = [];
  override write(offset: number, parts: readonly Buffer[], flags: number, done: Done): void {
    this.#late.push(() => super.write(offset, parts, flags, done));
  }
  answer(): void {
    for (const write of this.#late.splice(0)) write();
  }
}

if (process.argv[2] === 'measure') {
  const bytes = { read: least(measure(false)), write: least(measure(true)) };
  process.stdout.write(JSON.stringify(bytes));
} else {
  const self = fileURLToPath(import.meta.url);
  // A young generation that nothing is collected from in one window.
  const args = ['--expose-gc', '--max-semi-space-size=64', '--min-semi-space-size=64'];
  const { stdout, stderr } = spawnSync(process.execPath, [...args, self, 'measure'], {
    encoding: 'utf8',
    timeout: 60_000,
  });
  if (stdout === '') throw new Error(`The measurement printed nothing: ${stderr}`);
  const { read, write } = JSON.parse(stdout) as { read: number; write: number }; // printed above
  t.comment(`heap bytes for each request: READ ${read}, WRITE ${write}`);
  t.ok(
    read > 0 && read <= READ_BYTES_MAX,
    `a READ allocates ${read} bytes, ${READ_BYTES_MAX} at most`,
  );
  t.ok(
    write > 0 && write <= WRITE_BYTES_MAX,
    `a WRITE allocates ${write} bytes, ${WRITE_BYTES_MAX} at most`,
  );
  // What is not free is a slab for the garbage collector, and those made it collect everything, again and again.
  t.equal(
    chunksFreeAtOnce(5),
    4,
    'all but the first, from which it learns that answers come later',
  );
}

/** How many of `count` chunks of WRITEs were free for the next bytes when they had been received. */
function chunksFreeAtOnce(count: number): number {
  const backend = new LateBackend(64 * MIB);
  const transmission = transmissionOver(new TakingConnection(), backend);
  let free = 0;
  for (let index = 0; index < count; index += 1) {
    if (transmission.receive(chunkOfRequests(true))) free += 1;
    backend.answer();
  }
  return free;
}

function transmissionOver(connection: Connection, backend: Backend): Transmission {
  return new Transmission({
    connection,
    backend,
    readOnly: false,
    negotiated: { headers: 'structured', knowsBlockSizes: false, contexts: [], exportName: '' },
    blockBytesMin: 1,
    budget: new ServerBudget(SERVER_LIMITS),
    pool: new BufferPool(16 * MIB, { poison: false }),
    clock: { now: () => 0, wallTime: () => '', wallSeconds: () => 0 },
    log: silentLog,
    stats: [new Stats(), new Stats()],
    owner: { inputEnded: () => undefined, finished: () => undefined, drop: (why) => fail(why) },
  });
}

/** Heap bytes for each 4 KiB request, in several windows. */
function measure(writes: boolean): number[] {
  const connection = new TakingConnection();
  const transmission = transmissionOver(connection, new MemoryBackend(64 * MIB));
  const chunk = chunkOfRequests(writes);
  const windows: number[] = [];
  for (let count = 0; count < WARM_UP_CHUNKS; count += 1) transmission.receive(chunk);
  for (let window = 0; window < WINDOWS; window += 1) {
    globalThis.gc?.();
    const before = process.memoryUsage().heapUsed;
    for (let count = 0; count < CHUNKS; count += 1) transmission.receive(chunk);
    windows.push((process.memoryUsage().heapUsed - before) / (CHUNKS * DEPTH));
  }
  const requests = (WARM_UP_CHUNKS + WINDOWS * CHUNKS) * DEPTH;
  if (connection.takenBytes < requests * (writes ? 16 : BLOCK)) fail('not all was answered');
  return windows;
}

function chunkOfRequests(writes: boolean): Buffer {
  const payload = Buffer.alloc(BLOCK, 7);
  const requests = Array.from({ length: DEPTH }, (_, index) => {
    const [cookie, offset] = [index, index * 3 * BLOCK];
    return writes
      ? compactRequest({ type: NBD_CMD.WRITE, cookie, offset, payload })
      : compactRequest({ type: NBD_CMD.READ, cookie, offset, length: BLOCK });
  });
  return Buffer.concat(requests);
}

/** What else happened in a window (the compiler at work) only adds. */
function least(values: readonly number[]): number {
  return Math.round(Math.min(...values));
}

function fail(why: string): never {
  throw new Error(why);
}

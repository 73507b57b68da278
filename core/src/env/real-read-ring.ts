/**
 * Reads that have to wait for the disk, through an io_uring: as the thread pool they do not hold the event loop up, but
 * they cost half of it (15 against 28 us of processor for a cold 4 KiB, measured with 32 at a time), since no thread is
 * woken for each, and all that one turn of the event loop asks for starts with one system call.
 *
 * The event loop cannot wait for the ring itself, so each read is followed by one byte into a pipe that it does wait for.
 * Results are taken then and never earlier: a chain of reads that are in memory would not let the event loop go on.
 */
import { Socket } from 'node:net';
import { addressOf, loadLibrary } from '../util/native-library.js';
import { EAGAIN, EINTR } from './real-native.js';
import { Ring } from './real-ring.js';

const RING_ENTRIES = 512;
/** So many are handed over at once without waiting for the end of the turn: the disk shall not idle. */
const SUBMIT_READS_MIN = 8;
/** When the kernel has not taken everything, it is asked again after so long. */
const RETRY_MS = 1;
/**
 * Handing over starts the disk, which can take its time (its queue is full, or the file system has to read where the
 * file's bytes are). When it took so long, reads are the thread pool's for a while.
 */
const SLOW_SUBMIT_MS = 2;
const AFTER_SLOW_MS = 50;
const EBUSY = 16;
const O_NONBLOCK_CLOEXEC = 0o4000 | 0o2000000;
const PIPE_BYTES = 4096;

/** Gets the number of bytes read, or -errno. */
export type RingReadDone = (result: number) => void;

/** What it needs of a {@link Ring}. */
export type ReadQueue = Pick<
  Ring,
  'size' | 'room' | 'unsubmitted' | 'readAndTell' | 'submit' | 'withdraw' | 'results'
>;

interface PendingRead {
  /** Held here: the kernel writes into it. */
  readonly target: Buffer;
  readonly done: RingReadDone;
}

let opened: ReadRing | null | undefined;

/** The ring of this process, or null where it cannot be had, or `STORE_IO_URING=off` says that it is not wanted. */
export function readRing(): ReadRing | null {
  if (opened === undefined)
    opened = process.env['STORE_IO_URING'] === 'off' ? null : ReadRing.open();
  return opened;
}

export class ReadRing {
  readonly #ring: ReadQueue;
  readonly #pipe: Socket;
  readonly #tell: { readonly fd: number; readonly byte: Buffer };
  /** By user data less one; null: free. */
  readonly #pending: (PendingRead | null)[] = [];
  readonly #free: number[] = [];
  #inFlight = 0;
  /** Slots of the reads that the kernel may not have taken yet, in order. */
  #queued: number[] = [];
  #isScheduled = false;
  #notBefore = -Infinity;
  #retry: NodeJS.Timeout | null = null;

  static open(): ReadRing | null {
    const ring = Ring.open(RING_ENTRIES);
    return ring === null ? null : ReadRing.over(ring);
  }

  static over(ring: ReadQueue): ReadRing | null {
    const ends = pipe();
    return ends === null ? null : new ReadRing(ring, ends);
  }

  private constructor(ring: ReadQueue, ends: { readonly read: number; readonly write: number }) {
    this.#ring = ring;
    this.#tell = { fd: ends.write, byte: Buffer.alloc(1) };
    const options = {
      fd: ends.read,
      ...{ readable: true, writable: false },
      onread: {
        buffer: Buffer.alloc(PIPE_BYTES),
        callback: () => {
          this.#takeResults();
          return true;
        },
      },
    };
    this.#pipe = new Socket(options);
    this.#pipe.resume();
    this.#pipe.unref();
  }

  /**
   * `done` is called later, never from within.
   * @returns False, and nothing happens, when very many are under way
   */
  read(fd: number, position: number, target: Buffer, done: RingReadDone): boolean {
    // Two operations each; as many results find room, so none is ever lost.
    if ((this.#inFlight + 1) * 2 > this.#ring.size || this.#ring.room < 2) return false;
    if (performance.now() < this.#notBefore) return false;
    const slot = this.#free.pop() ?? this.#pending.push(null) - 1;
    this.#pending[slot] = { target, done };
    if (this.#inFlight === 0) this.#pipe.ref();
    this.#inFlight += 1;
    this.#ring.readAndTell(slot + 1, fd, position, target, this.#tell);
    if (this.#queued.push(slot) >= SUBMIT_READS_MIN) this.#submit();
    else if (!this.#isScheduled) {
      this.#isScheduled = true;
      queueMicrotask(() => {
        this.#isScheduled = false;
        this.#submit();
      });
    }
    return true;
  }

  #submit(): void {
    if (this.#ring.unsubmitted === 0) return;
    const begun = performance.now();
    const error = this.#ring.submit();
    const now = performance.now();
    if (now - begun > SLOW_SUBMIT_MS) this.#notBefore = now + AFTER_SLOW_MS;
    const left = Math.floor(this.#ring.unsubmitted / 2);
    this.#queued = left === 0 ? [] : this.#queued.slice(-left);
    const isBusy = error === EAGAIN || error === EINTR || error === EBUSY;
    if (error !== 0 && !isBusy) this.#giveUp();
    // A read may have been taken without the byte that tells of its end: asking again looks for results, too.
    else if (this.#ring.unsubmitted === 0) return;
    this.#retry ??= setTimeout(() => this.#submitRest(), RETRY_MS);
  }

  /** The kernel will not have it (a filter of system calls, no memory): from now on reads are the thread pool's. */
  #giveUp(): void {
    this.#notBefore = Infinity;
    this.#ring.withdraw();
    const refused = this.#queued;
    this.#queued = [];
    setImmediate(() => {
      for (const slot of refused) this.#finish(slot, -EAGAIN);
    });
  }

  #submitRest(): void {
    this.#retry = null;
    this.#submit();
    this.#takeResults();
    if (this.#inFlight > 0) this.#retry ??= setTimeout(() => this.#submitRest(), RETRY_MS);
  }

  #takeResults(): void {
    // Without a slot: a byte that found the pipe full, which is awake anyway.
    this.#ring.results((userData, result) => this.#finish(userData - 1, result));
  }

  #finish(slot: number, result: number): void {
    const read = this.#pending[slot];
    if (read === undefined || read === null) return;
    this.#pending[slot] = null;
    this.#free.push(slot);
    this.#inFlight -= 1;
    if (this.#inFlight === 0) this.#pipe.unref();
    read.done(result);
  }
}

function pipe(): { readonly read: number; readonly write: number } | null {
  const pipe2 = loadLibrary('libc.so.6')?.func('int pipe2(uint64_t, int)') as
    ((descriptors: number, flags: number) => number) | undefined;
  const ends = new Int32Array(2);
  const result = pipe2?.(addressOf(new Uint8Array(ends.buffer)), O_NONBLOCK_CLOEXEC) ?? -1;
  return result < 0 ? null : { read: ends[0] ?? -1, write: ends[1] ?? -1 };
}

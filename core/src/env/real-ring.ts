/**
 * An io_uring: two queues in memory shared with the kernel, through `koffi`. Operations are written into one (SQ),
 * handed over many at a time with one system call, and their results read from the other (CQ) without any.
 *
 * Structures and numbers are those of `linux/io_uring.h`; the same on every 64-bit machine. Wanted are Linux 5.19 and the
 * permission, which containers often withhold: then there is none, and the caller goes on with threads.
 */
import { addressOf, errno, loadLibrary, memoryAt } from '../util/native-library.js';

const SYS_IO_URING_SETUP = 425;
const SYS_IO_URING_ENTER = 426;
const PROT_READ_WRITE = 3;
const MAP_SHARED_POPULATE = 0x8001;
const MAP_FAILED = -1;
/** Results are delivered when we enter the kernel or sleep there, instead of by interrupting us. */
const IORING_SETUP_COOP_TASKRUN = 1 << 8;
const IORING_FEAT_SINGLE_MMAP = 1;
const IORING_OFF_SQES = 0x10000000;
const IORING_OP_READ = 22;
const IORING_OP_WRITE = 23;
/** The next operation starts when this one has ended, however it ended. */
const IOSQE_IO_HARDLINK = 1 << 3;
const IOSQE_CQE_SKIP_SUCCESS = 1 << 6;

// struct io_uring_params, in units of 4 bytes
const PARAMS_WORDS = 30;
const SQ_ENTRIES = 0;
const CQ_ENTRIES = 1;
const FLAGS = 2;
const FEATURES = 5;
// its sq_off: head, tail, ring_mask, …, array; and cq_off: head, tail, ring_mask, …, cqes. All in bytes.
const SQ_TAIL = 11;
const SQ_MASK = 12;
const SQ_ARRAY = 16;
const CQ_HEAD = 20;
const CQ_TAIL = 21;
const CQ_MASK = 22;
const CQ_CQES = 25;

// struct io_uring_sqe, in units of 4 bytes; what is not named stays zero
const SQE_WORDS = 16;
const AT_OPCODE = 0; //    and flags in its second byte
const AT_FD = 1;
const AT_OFFSET = 2; //    8 bytes
const AT_ADDRESS = 4; //   8 bytes
const AT_BYTES = 6;
const AT_USER_DATA = 8; // 8 bytes, of which we use 4
// struct io_uring_cqe: user data (8 bytes), result, flags
const CQE_WORDS = 4;
const AT_RESULT = 2;

type SystemCall = (
  number: number,
  ...parameters: [number, number, number, number, number]
) => number;

/** One thread fills it and empties it: the one that made it. */
export class Ring {
  /** Operations that fit into the queue before it is submitted. */
  readonly size: number;
  readonly #descriptor: number;
  readonly #call: SystemCall;
  readonly #queues: Int32Array;
  readonly #operations: Int32Array;
  readonly #sqTail: number;
  readonly #sqMask: number;
  readonly #cqHead: number;
  readonly #cqTail: number;
  readonly #cqMask: number;
  readonly #results: number;
  #tail: number;
  #head: number;
  #unsubmitted = 0;

  /** @returns Null where it cannot be had */
  static open(size: number): Ring | null {
    const libc = loadLibrary('libc.so.6');
    if (libc === null || process.platform !== 'linux') return null;
    const call = libc.func(
      'int64_t syscall(int64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t)',
    ) as unknown as SystemCall;
    const mmap = libc.func(
      'int64_t mmap(uint64_t, uint64_t, int, int, int, int64_t)',
    ) as unknown as (...parameters: [number, number, number, number, number, number]) => number;
    const params = new Int32Array(PARAMS_WORDS);
    params[FLAGS] = IORING_SETUP_COOP_TASKRUN;
    const descriptor = call(
      SYS_IO_URING_SETUP,
      size,
      addressOf(new Uint8Array(params.buffer)),
      ...[0, 0, 0],
    );
    if (descriptor < 0) return null;
    const map = (bytes: number, offset: number): Int32Array | null => {
      const address = mmap(0, bytes, PROT_READ_WRITE, MAP_SHARED_POPULATE, descriptor, offset);
      const memory = address === MAP_FAILED ? null : memoryAt(address, bytes);
      return memory === null ? null : new Int32Array(memory);
    };
    // One mapping has both queues (Linux 5.4).
    if (((params[FEATURES] ?? 0) & IORING_FEAT_SINGLE_MMAP) === 0) return null;
    const word = (at: number): number => params[at] ?? 0;
    const sqEnd = word(SQ_ARRAY) + word(SQ_ENTRIES) * 4;
    const cqEnd = word(CQ_CQES) + word(CQ_ENTRIES) * CQE_WORDS * 4;
    const queues = map(Math.max(sqEnd, cqEnd), 0);
    const operations = map(word(SQ_ENTRIES) * SQE_WORDS * 4, IORING_OFF_SQES);
    // A descriptor that is left open here costs nothing: it happens once in a process, if ever.
    if (queues === null || operations === null) return null;
    return new Ring(descriptor, call, params, queues, operations);
  }

  private constructor(
    descriptor: number,
    call: SystemCall,
    params: Int32Array,
    queues: Int32Array,
    operations: Int32Array,
  ) {
    const index = (at: number): number => (params[at] ?? 0) / 4;
    this.size = params[SQ_ENTRIES] ?? 0;
    this.#descriptor = descriptor;
    this.#call = call;
    this.#queues = queues;
    this.#operations = operations;
    this.#sqTail = index(SQ_TAIL);
    this.#sqMask = queues[index(SQ_MASK)] ?? 0;
    this.#cqHead = index(CQ_HEAD);
    this.#cqTail = index(CQ_TAIL);
    this.#cqMask = queues[index(CQ_MASK)] ?? 0;
    this.#results = index(CQ_CQES);
    this.#tail = queues[this.#sqTail] ?? 0;
    this.#head = queues[this.#cqHead] ?? 0;
    // The queue is a ring of indexes into the array of operations; each place has its own for good.
    for (let place = 0; place < this.size; place += 1) queues[index(SQ_ARRAY) + place] = place;
  }

  /** Operations that still fit before the next `submit`. */
  get room(): number {
    return this.size - this.#unsubmitted;
  }

  get unsubmitted(): number {
    return this.#unsubmitted;
  }

  /**
   * Queues a read, and a write of one byte that starts when the read has ended.
   * @param userData - Comes with the result of the read; not 0
   * @param target - Must stay where it is until the result has come
   */
  readAndTell(
    userData: number,
    fd: number,
    position: number,
    target: Buffer,
    tell: { readonly fd: number; readonly byte: Buffer },
  ): void {
    this.#add(IORING_OP_READ, IOSQE_IO_HARDLINK, fd, position, target, userData);
    this.#add(IORING_OP_WRITE, IOSQE_CQE_SKIP_SUCCESS, tell.fd, -1, tell.byte, 0);
  }

  #add(
    opcode: number,
    flags: number,
    fd: number,
    position: number,
    memory: Buffer,
    userData: number,
  ): void {
    const operations = this.#operations;
    const at = (this.#tail & this.#sqMask) * SQE_WORDS;
    const address = addressOf(memory);
    operations.fill(0, at, at + SQE_WORDS);
    operations[at + AT_OPCODE] = opcode | (flags << 8);
    operations[at + AT_FD] = fd;
    operations[at + AT_OFFSET] = position; // its low 32 bits
    operations[at + AT_OFFSET + 1] = Math.floor(position / 2 ** 32);
    operations[at + AT_ADDRESS] = address;
    operations[at + AT_ADDRESS + 1] = Math.floor(address / 2 ** 32);
    operations[at + AT_BYTES] = memory.length;
    operations[at + AT_USER_DATA] = userData;
    this.#tail = (this.#tail + 1) | 0;
    this.#unsubmitted += 1;
  }

  /** Hands over what is queued. @returns 0, or the number of an error: then some of it is still queued */
  submit(): number {
    Atomics.store(this.#queues, this.#sqTail, this.#tail);
    const taken = this.#call(SYS_IO_URING_ENTER, this.#descriptor, this.#unsubmitted, 0, 0, 0);
    if (taken < 0) return errno();
    this.#unsubmitted -= taken;
    return 0;
  }

  /** Forgets what was not handed over. Only after `submit` failed. */
  withdraw(): void {
    this.#tail = (this.#tail - this.#unsubmitted) | 0;
    this.#unsubmitted = 0;
    Atomics.store(this.#queues, this.#sqTail, this.#tail);
  }

  /**
   * Takes the results that have come before this call; others may come of what `each` does, and would keep the event loop
   * here. A negative one is -errno.
   */
  results(each: (userData: number, result: number) => void): void {
    const queues = this.#queues;
    const end = Atomics.load(queues, this.#cqTail);
    while (this.#head !== end) {
      const at = this.#results + (this.#head & this.#cqMask) * CQE_WORDS;
      const userData = queues[at] ?? 0;
      const result = queues[at + AT_RESULT] ?? 0;
      this.#head = (this.#head + 1) | 0;
      Atomics.store(queues, this.#cqHead, this.#head); // the place is the kernel's again
      each(userData, result);
    }
  }
}

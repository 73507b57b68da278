import { BLOCK_STATE, StoreError, type Done, type Extent } from '@store/core';
import t from 'tap';
import type { Backend } from '../backend.js';
import { MemoryBackend } from '../memory-backend.js';
import { READ_PIECE_BYTES_MAX } from '../protocol/limits.js';
import { BufferPool } from '@store/core';
import { chunkedRead } from './chunked-read.js';
import type { Reply } from '@store/core';
import { ReplyOutbox } from '@store/core';

const PIECE = READ_PIECE_BYTES_MAX;
const ROOM = 28;

/** What a READ answered, and what it did with the memory it was given. */
class Answer {
  readonly data = new Map<number, Buffer>();
  readonly holes: [number, number][] = [];
  lastAt = -1;
  count = 0;
  failures: (StoreError | null)[] = [];
  wholes = 0;
  abandoned: Reply[] = [];
  discarded: Reply[] = [];
  isGone = false;

  read(backend: Backend, offset: number, bytes: number): this {
    const outbox = new ReplyOutbox(new BufferPool(0, { poison: false }));
    chunkedRead(backend, {
      offset,
      bytes,
      room: ROOM,
      allocate: (size) => outbox.allocate(size),
      abandon: (reply) => this.abandoned.push(reply),
      discard: (reply) => this.discarded.push(reply),
      isGone: () => this.isGone,
      piece: (piece, isLast) => {
        if (isLast) this.lastAt = this.count;
        this.count += 1;
        if (piece.kind === 'hole') this.holes.push([piece.offset, piece.bytes]);
        else this.data.set(piece.offset, Buffer.from(piece.reply.view(ROOM)));
      },
      failed: (error) => this.failures.push(error),
      whole: () => (this.wholes += 1),
    });
    return this;
  }

  /** The bytes of `[offset, offset + bytes)` as a client puts them together. */
  bytes(offset: number, bytes: number): Buffer {
    const out = Buffer.alloc(bytes);
    for (const [at, data] of this.data) data.copy(out, at - offset);
    return out;
  }
}

/** A backend whose reads wait, and are answered one by one. */
function slowBackend(bytes: number): {
  backend: Backend;
  waiting: { offset: number; done: Done }[];
} {
  const waiting: { offset: number; done: Done }[] = [];
  const memory = new MemoryBackend(bytes);
  const backend: Backend = {
    bytes,
    readOnly: false,
    read: (offset, target, done) => {
      target.fill(offset / PIECE + 1);
      waiting.push({ offset, done });
    },
    write: (...parameters) => memory.write(...parameters),
    zero: (...parameters) => memory.zero(...parameters),
    flush: (done) => memory.flush(done),
    prefetch: (...parameters) => memory.prefetch(...parameters),
    extents: (_offset, count, done) => done(null, [{ bytes: count, state: BLOCK_STATE.data }]),
  };
  return { backend, waiting };
}

const failure = new StoreError('E_CHECKSUM', 'rotten');

t.test('long data comes in pieces that cover the range, the last one marked', async (t) => {
  const { backend, waiting } = slowBackend(16 * PIECE);
  const answer = new Answer().read(backend, PIECE / 2, 3 * PIECE + 100);
  for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) next.done(null);
  t.strictSame(
    [...answer.data.keys()],
    [0.5, 1.5, 2.5, 3.5].map((at) => at * PIECE),
  );
  t.strictSame([answer.count, answer.lastAt, answer.failures], [4, 3, []]);
  t.equal(answer.data.get(3.5 * PIECE)?.length, 100);
});

t.test('four pieces are read at a time, and leave as they come', async (t) => {
  const { backend, waiting } = slowBackend(16 * PIECE);
  const answer = new Answer().read(backend, 0, 6 * PIECE);
  t.equal(waiting.length, 4);
  waiting.splice(2, 1)[0]?.done(null);
  t.strictSame([...answer.data.keys()], [2 * PIECE], 'the third first');
  t.equal(waiting.length, 4, 'the fifth took its place');
  while (waiting.length > 0) waiting.pop()?.done(null);
  t.strictSame([answer.count, answer.lastAt], [6, 5]);
});

t.test('holes are said in one piece, however long', async (t) => {
  const memory = new MemoryBackend(64 * PIECE);
  const extents: Extent[] = [
    { bytes: 40 * PIECE, state: BLOCK_STATE.absent },
    { bytes: PIECE, state: BLOCK_STATE.data },
    { bytes: 3 * PIECE, state: BLOCK_STATE.zero },
  ];
  memory.extents = (_offset, _bytes, done) => done(null, extents);
  memory.write(40 * PIECE, [Buffer.alloc(PIECE, 7)], 0, () => undefined);
  const answer = new Answer().read(memory, 0, 44 * PIECE);
  t.strictSame(answer.holes, [
    [0, 40 * PIECE],
    [41 * PIECE, 3 * PIECE],
  ]);
  t.ok(
    answer
      .bytes(0, 44 * PIECE)
      .subarray(40 * PIECE, 41 * PIECE)
      .equals(Buffer.alloc(PIECE, 7)),
  );
  t.strictSame([answer.count, answer.lastAt], [3, 2]);
});

t.test('what is one piece of data is left to the plain way', async (t) => {
  const { backend, waiting } = slowBackend(16 * PIECE);
  const answer = new Answer().read(backend, 0, PIECE);
  t.strictSame([answer.wholes, answer.count, waiting.length], [1, 0, 0]);
});

t.test(
  'an error is told once, after everything in flight came back, and nothing is sent after it',
  async (t) => {
    const { backend, waiting } = slowBackend(16 * PIECE);
    const answer = new Answer().read(backend, 0, 8 * PIECE);
    waiting.shift()?.done(null);
    waiting.shift()?.done(failure);
    t.equal(waiting.length, 3, 'nothing new is started');
    t.strictSame(answer.failures, []);
    while (waiting.length > 0) waiting.shift()?.done(null);
    t.strictSame(answer.failures, [failure]);
    t.strictSame([answer.count, answer.lastAt], [1, -1]);
    const { abandoned, discarded } = answer;
    t.strictSame([abandoned.length, discarded.length], [1, 3], 'only who failed may still write');
  },
);

t.test('when nobody waits any more no further piece is read', async (t) => {
  const { backend, waiting } = slowBackend(16 * PIECE);
  const answer = new Answer().read(backend, 0, 8 * PIECE);
  answer.isGone = true;
  while (waiting.length > 0) waiting.shift()?.done(null);
  t.strictSame([answer.count, answer.failures], [4, [null]]);
});

t.test('a very long READ lets others have their turn', async (t) => {
  const memory = new MemoryBackend(32 * 1024 * 1024);
  memory.extents = (_offset, bytes, done) => done(null, [{ bytes, state: BLOCK_STATE.data }]);
  const answer = new Answer().read(memory, 0, 32 * 1024 * 1024);
  t.ok(answer.count > 0 && answer.count < 64, `${answer.count} pieces in the first turn`);
  while (answer.lastAt < 0) await new Promise((resolve) => setImmediate(resolve));
  t.equal(answer.count, (32 * 1024 * 1024) / PIECE);
});

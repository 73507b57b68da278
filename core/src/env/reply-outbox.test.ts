import t from 'tap';
import { BufferPool } from './buffer-pool.js';
import type { Reply } from './reply.js';
import { ReplyOutbox } from './reply-outbox.js';

const KIB = 1024;

function outboxWithPool(): { pool: BufferPool; outbox: ReplyOutbox } {
  const pool = new BufferPool(1024 * KIB, { poison: true });
  return { pool, outbox: new ReplyOutbox(pool) };
}

/** Allocates a piece filled with `byte`. */
function piece(outbox: ReplyOutbox, bytes: number, byte: number): Reply {
  const reply = outbox.allocate(bytes);
  reply.view().fill(byte);
  return reply;
}

function joined(...replies: readonly Reply[]): Buffer {
  return Buffer.concat(replies.map((reply) => reply.view()));
}

t.test('neighbours leave as one part, in the order they were queued', (t) => {
  const { outbox } = outboxWithPool();
  const [a, b, c] = [piece(outbox, 20, 1), piece(outbox, 30, 2), piece(outbox, 40, 3)];
  outbox.push(a);
  outbox.push(b);
  outbox.push(c);
  const parts = outbox.takeParts();
  t.equal(parts.length, 1);
  t.strictSame(Buffer.concat(parts), joined(a, b, c));
  const [d, e] = [piece(outbox, 20, 4), piece(outbox, 30, 5)];
  outbox.push(e);
  outbox.push(d);
  t.strictSame(Buffer.concat(outbox.takeParts()), joined(e, d));
  t.end();
});

t.test('a slab comes back when its last piece has left, and not before', (t) => {
  const { pool, outbox } = outboxWithPool();
  const slow = piece(outbox, 4 * KIB, 1);
  const fast = piece(outbox, 4 * KIB, 2);
  outbox.push(fast);
  outbox.takeParts();
  outbox.sentAllBut(0);
  t.equal(pool.keptBytes, 0, 'a piece that was not queued yet holds it');
  t.equal(slow.view()[0], 1);
  outbox.push(slow);
  outbox.takeParts();
  outbox.sentAllBut(1);
  t.equal(pool.keptBytes, 0, 'a byte of it is still on its way');
  t.equal(slow.view()[0], 1);
  outbox.sentAllBut(0);
  t.ok(pool.keptBytes > 256 * KIB, 'all has left');
  t.equal(slow.view()[0], 0xdb, 'and may be overwritten');
  t.end();
});

t.test('large replies have memory of their own, which comes back in the order of sending', (t) => {
  const { pool, outbox } = outboxWithPool();
  const pieces = [piece(outbox, 64 * KIB, 1), piece(outbox, 128 * KIB, 2)];
  for (const one of pieces) outbox.push(one);
  outbox.takeParts();
  outbox.sentAllBut(128 * KIB);
  t.equal(pool.keptBytes, 68 * KIB);
  t.equal(pieces[1]?.view()[0], 2);
  outbox.sentAllBut(0);
  t.equal(pool.keptBytes, (68 + 132) * KIB);
  t.end();
});

t.test('an answer counts for all of its bytes until the last of them has left', (t) => {
  const { outbox } = outboxWithPool();
  for (const bytes of [1000, 2000, 40 * KIB, 128 * KIB]) outbox.push(piece(outbox, bytes, 1));
  outbox.takeParts();
  const small = 3000 + 40 * KIB;
  t.equal(outbox.sentAllBut(small + 128 * KIB), 0);
  t.equal(outbox.sentAllBut(128 * KIB + 1), 3000, 'neighbours in one slab leave together');
  t.equal(outbox.sentAllBut(128 * KIB), 40 * KIB);
  t.equal(outbox.sentAllBut(1), 0);
  t.equal(outbox.sentAllBut(0), 128 * KIB);
  t.equal(outbox.sentAllBut(0), 0, 'once');
  t.end();
});

t.test(
  'when the connection is closed all memory comes back but that of a READ that failed',
  (t) => {
    const { pool, outbox } = outboxWithPool();
    outbox.push(piece(outbox, 128 * KIB, 1));
    outbox.takeParts();
    outbox.push(piece(outbox, 64 * KIB, 2));
    const [late, failed] = [piece(outbox, 256 * KIB, 3), piece(outbox, 512 * KIB, 4)];
    t.equal(outbox.close(), 192 * KIB, 'what had not left');
    t.equal(pool.keptBytes, (132 + 68) * KIB, 'nobody sends it any more');
    t.equal(late.view()[0], 3, 'somebody may still write to this');
    outbox.discard(late);
    outbox.abandon(failed);
    t.equal(pool.keptBytes, (132 + 68 + 260) * KIB);
    t.equal(failed.view()[0], 4);
    t.equal(outbox.close(), 0);
    t.end();
  },
);

t.test('memory of an abandoned piece never comes back, and its neighbours still leave', (t) => {
  const { pool, outbox } = outboxWithPool();
  const failed = piece(outbox, 4 * KIB, 1);
  const good = piece(outbox, 4 * KIB, 2);
  outbox.abandon(failed);
  outbox.push(good);
  const next = piece(outbox, 4 * KIB, 3);
  t.not(next.memory, failed.memory, 'nothing more is cut from that slab');
  outbox.push(next);
  t.strictSame(Buffer.concat(outbox.takeParts()), joined(good, next));
  outbox.sentAllBut(0);
  t.equal(good.view()[0], 2);
  t.ok(pool.keptBytes > 0, 'the other slab came back');
  t.not(pool.take(256 * KIB), failed.memory);
  t.end();
});

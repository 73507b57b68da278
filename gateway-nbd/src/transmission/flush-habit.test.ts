import { StoreError, WRITE_FLAGS, type Done } from '@store/core';
import t from 'tap';
import { memoryCatalog } from '../memory-backend.js';
import { NBD_CMD } from '../protocol/constants.js';
import { RawClient } from '../testing/raw-client.js';
import { startServer } from '../testing/test-server.js';
import { VolatileBackend } from '../testing/volatile-backend.js';
import { FlushHabit } from './flush-habit.js';

function rounds(habit: FlushHabit, count: number, changes = 1): boolean[] {
  return Array.from({ length: count }, () => {
    const expected = Array.from({ length: changes }, () => habit.changed());
    habit.flushed();
    return expected.some((one) => one);
  });
}

t.test('a flush is expected once four in a row came after a single change', (t) => {
  const habit = new FlushHabit();
  t.same(rounds(habit, 6), [false, false, false, false, true, true]);
  t.equal(habit.changed(), true);
  t.equal(habit.changed(), false, 'no flush came');
  habit.flushed();
  t.same(rounds(habit, 5), [false, false, false, false, true], 'and it begins anew');
  t.end();
});

t.test(
  'who changes more than one thing between flushes, or flushes nothing, has no such habit',
  (t) => {
    const habit = new FlushHabit();
    t.same(
      rounds(habit, 10, 2),
      Array.from({ length: 10 }, () => false),
    );
    for (let flush = 0; flush < 10; flush += 1) habit.flushed();
    t.equal(habit.changed(), false);
    t.end();
  },
);

t.test('a flush that has nothing to do changes nothing', (t) => {
  const habit = new FlushHabit();
  rounds(habit, 4);
  habit.flushed();
  t.equal(habit.changed(), true);
  t.end();
});

t.test('a write that a flush is expected after is durable, or as the client asked', async (t) => {
  const flagsSeen: number[] = [];
  const backend = new (class extends VolatileBackend {
    hasRoom = true;

    override write(offset: number, parts: readonly Buffer[], flags: number, done: Done): void {
      flagsSeen.push(flags);
      if (flags === WRITE_FLAGS.durable && !this.hasRoom)
        done(new StoreError('E_NO_SPACE', 'no room for metadata'));
      else super.write(offset, parts, flags, done);
    }
  })(4096);
  const { server, stop } = await startServer(memoryCatalog({ disk: backend }));
  t.teardown(stop);
  const client = await RawClient.go(server.address);
  const payload = Buffer.alloc(512, 7);
  for (let round = 0; round < 5; round += 1) {
    t.equal(await client.ask({ type: NBD_CMD.WRITE, cookie: 1, payload }), 0);
    if (round < 4) t.equal(await client.ask({ type: NBD_CMD.FLUSH, cookie: 2 }), 0);
  }
  const { none, durable } = WRITE_FLAGS;
  t.same(flagsSeen, [none, none, none, none, durable]);
  backend.cutPower();
  t.equal(await client.ask({ type: NBD_CMD.FLUSH, cookie: 3 }), 0);
  backend.hasRoom = false;
  t.equal(await client.ask({ type: NBD_CMD.WRITE, cookie: 4, payload }), 0, 'it was not asked for');
  t.same(flagsSeen.slice(5), [durable, none]);
});

import { StoreError, type Clock } from '@store/core';
import t from 'tap';
import { SESSION_KEEP_MS, SessionTable } from './session-table.js';
import type { Session, SessionHolder } from './session.js';

class TestClock implements Clock {
  ms = 0;
  now(): number {
    return this.ms;
  }
  wallTime(): string {
    return 'now';
  }
  wallSeconds(): number {
    return this.ms / 1000;
  }
}

class Holder implements SessionHolder {
  isSuperseded = false;
  superseded(): void {
    this.isSuperseded = true;
  }
}

const idOf = (number: number): Buffer => {
  const id = Buffer.alloc(16);
  id.writeUInt32LE(number);
  return id;
};
const answer = { status: 0, body: Buffer.from('kept') };

t.test('a session that is known is resumed, with what was answered in it', async (t) => {
  const table = new SessionTable(new TestClock());
  const [one, two] = [new Holder(), new Holder()];
  const first = await table.take(idOf(1), 1, 'client a', one);
  t.equal(first.resumed, false);
  first.session.admit(1, 0);
  first.session.finished(1, answer);
  const second = await table.take(idOf(1), 2, 'client a', two);
  t.equal(second.resumed, true);
  t.equal(second.session, first.session);
  t.ok(one.isSuperseded, 'the connection before it is told');
  t.strictSame(second.session.admit(1, 0), answer);
  t.equal((await table.take(idOf(2), 1, 'client a', one)).resumed, false, 'another id is another');
  t.equal(table.count, 2);
});

t.test('taking over waits for what runs; a newer connection overtakes who waits', async (t) => {
  const table = new SessionTable(new TestClock());
  const { session } = await table.take(idOf(1), 1, 'client a', new Holder());
  session.admit(1, 0);
  const [second, third] = [new Holder(), new Holder()];
  let isTaken = false;
  const overtaken = table.take(idOf(1), 2, 'client a', second).catch((error: unknown) => error);
  const taking = table.take(idOf(1), 3, 'client a', third).then((taken) => {
    isTaken = true;
    return taken;
  });
  await new Promise((resolve) => setTimeout(resolve, 10));
  t.equal(isTaken, false);
  session.finished(1, answer);
  t.equal((await taking).session, session);
  t.match(await overtaken, { code: 'E_DENIED', message: /newer/ });
  t.ok(second.isSuperseded);
  t.notOk(third.isSuperseded);
});

t.test('others and older connections are refused, and change nothing', async (t) => {
  const table = new SessionTable(new TestClock());
  const holder = new Holder();
  const { session } = await table.take(idOf(1), 7, 'client a', holder);
  for (const [incarnation, principal] of [
    [8, 'client b'],
    [8, ''],
    [7, 'client a'],
    [6, 'client a'],
  ] as const)
    await t.rejects(table.take(idOf(1), incarnation, principal, new Holder()), {
      code: 'E_DENIED',
    });
  t.equal(session.holder, holder);
  t.notOk(holder.isSuperseded);
});

t.test('sessions without a connection are forgotten after a while, others are not', async (t) => {
  const clock = new TestClock();
  const table = new SessionTable(clock);
  const [gone, busy, here] = [new Holder(), new Holder(), new Holder()];
  const left = await table.take(idOf(1), 1, 'client a', gone);
  const running = await table.take(idOf(2), 1, 'client a', busy);
  await table.take(idOf(3), 1, 'client a', here);
  running.session.admit(1, 0);
  table.leave(left.session, gone);
  table.leave(running.session, busy);
  clock.ms = SESSION_KEEP_MS;
  t.equal((await table.take(idOf(4), 1, 'client a', here)).resumed, false);
  t.equal(table.count, 4, 'not yet');
  clock.ms += 1;
  await table.take(idOf(5), 1, 'client a', here);
  t.equal(table.count, 4, 'one was forgotten');
  t.equal((await table.take(idOf(3), 2, 'client a', here)).resumed, true);
  t.equal((await table.take(idOf(1), 2, 'client a', here)).resumed, false);
});

t.test('who left is not in charge; who was superseded cannot leave for the other', async (t) => {
  const table = new SessionTable(new TestClock());
  const [one, two] = [new Holder(), new Holder()];
  const { session } = await table.take(idOf(1), 1, 'client a', one);
  await table.take(idOf(1), 2, 'client a', two);
  table.leave(session, one);
  t.equal(session.holder, two);
  table.leave(session, two);
  t.equal(session.holder, null);
});

t.test(
  'there is an end to the number of sessions: the idlest goes, and then it is E_BUSY',
  async (t) => {
    const table = new SessionTable(new TestClock());
    const holder = new Holder();
    const first = await table.take(idOf(0), 1, 'client a', holder);
    const max = 16_384;
    for (let number = 1; number < max; number += 1)
      await table.take(idOf(number), 1, 'client a', holder);
    t.equal(table.count, max);
    const refused: unknown = await table
      .take(idOf(max), 1, 'client a', holder)
      .catch((e: unknown) => e);
    t.ok(refused instanceof StoreError);
    t.match(refused, { code: 'E_BUSY', message: /try again later/ });
    table.leave(first.session, holder);
    t.equal((await table.take(idOf(max), 1, 'client a', holder)).resumed, false);
    t.equal(table.count, max);
  },
);

t.test('answers that nobody fetches are bounded: those of who is away go first', async (t) => {
  const table = new SessionTable(new TestClock());
  const kept = 262_144;
  const perSession = 4096;
  const fill = (session: Session): void => {
    for (let id = 1; id <= perSession; id += 1) {
      if (session.admit(id, 1) !== 'run') return;
      session.finished(id, answer);
    }
  };
  const holders: Holder[] = [];
  const sessions: Session[] = [];
  for (let number = 0; number < kept / perSession; number += 1) {
    const holder = new Holder();
    const { session } = await table.take(idOf(number), 1, 'client a', holder);
    fill(session);
    holders.push(holder);
    sessions.push(session);
  }
  const [gone, goneHolder] = [sessions[3], holders[3]];
  if (gone === undefined || goneHolder === undefined) throw new Error('there are more');
  table.leave(gone, goneHolder);
  const proper = new Holder();
  const { session } = await table.take(idOf(1000), 1, 'client a', proper);
  t.equal(session.admit(1, 1), 'run');
  t.equal(gone.keptCount, 0, 'who was away is forgotten');
  t.notOk(proper.isSuperseded);
  session.finished(1, answer);
  fill(session);
  t.notOk(proper.isSuperseded, 'there was room again');
  const last = new Holder();
  fill((await table.take(idOf(1001), 1, 'client a', last)).session);
  t.ok(last.isSuperseded, 'nobody is away any more: who keeps much has to go');
  t.notOk(
    holders.some(({ isSuperseded }) => isSuperseded),
    'and nobody else',
  );
});

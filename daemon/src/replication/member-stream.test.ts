/** The changes on their way to one member: how long they may take. */
import { BLOCK_STATE, ObjectRef, OBJECT_KIND } from '@store/core';
import t from 'tap';
import type { Change } from './change.js';
import { MemberStream, type StreamOwner } from './member-stream.js';
import { Uncommitted } from './uncommitted.js';

const object = new ObjectRef(OBJECT_KIND.imageData, 'layer_0', 'family_0');

function write(version: number, isDurable: boolean): Change {
  return {
    ...{ op: 'write', object, version, first: version, length: 4096 * 100, isDurable },
    ...{ blocks: [Buffer.alloc(4096)], checks: Uint32Array.of(0) },
  };
}

function stream(): {
  to: MemberStream;
  send: (change: Change) => void;
  owner: StreamOwner & { now: number; recalled: number };
} {
  const uncommitted = new Uncommitted();
  const owner = {
    ...{ now: 0, recalled: 0, pool: 1, number: 7, epoch: 2, committed: 0 },
    sendTo: () => undefined,
    recall: () => void (owner.recalled += 1),
    settled: (entry: Parameters<StreamOwner['settled']>[0]) => uncommitted.settled(entry),
  };
  const to = new MemberStream(owner, 2, 'b2', { isInSync: true, attempt: 0 });
  let number = 0;
  const send = (change: Change): void => {
    number += 1;
    to.send(uncommitted.add(number, change, 1, false), false);
  };
  return { to, send, owner };
}

t.test('a member may take longer for what must be durable, and for nothing else', (t) => {
  const { to, send, owner } = stream();
  t.equal(to.owedMs(0), 0);
  send(write(1, true));
  owner.now = 1000;
  send(write(2, true));
  t.equal(to.owedMs(9000), 0, 'a sync takes its time');
  send({
    op: 'states',
    object,
    version: 3,
    first: 1,
    count: 1,
    state: BLOCK_STATE.zero,
    length: 0,
  });
  t.equal(to.owedMs(9000), 8000);
  t.equal(to.owedMs(30_000), 29_000);
  to.acknowledged([2]);
  t.equal(to.owedMs(30_000), 10_000, 'but not for ever');
  t.end();
});

t.test('what is not acknowledged when it ends is recalled', (t) => {
  const { to, send, owner } = stream();
  to.end();
  t.equal(owner.recalled, 0);
  send(write(1, false));
  to.end();
  t.equal(owner.recalled, 1);
  t.end();
});

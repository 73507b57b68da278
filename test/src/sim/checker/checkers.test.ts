import { OBJECT_KIND, ObjectRef } from '@store/core';
import t from 'tap';
import {
  History,
  ZERO_TAG,
  type ObjectUse,
  type OpKind,
  type OpRecord,
  type UsedObject,
} from '../history.js';
import { judgeSingleWriter } from './single-writer.js';
import { judgeSwaps } from './swaps.js';
import { judgeZones } from './zones.js';

/** A history of one object of one cell. */
class Told {
  readonly history = new History();
  readonly object: UsedObject;

  constructor(use: ObjectUse) {
    const ref = new ObjectRef(OBJECT_KIND.imageData, 'layer_0');
    this.object = { index: 0, ref, use, group: 0, owner: 'c1' };
    this.history.objects.push(this.object);
  }

  write(tag: number, from: number, to: number, more: Partial<OpRecord> = {}): OpRecord {
    return this.#add(tag === ZERO_TAG ? 'zero' : 'write', 'c1', tag, from, to, more);
  }

  read(tag: number, from: number, to: number, more: Partial<OpRecord> = {}): OpRecord {
    const values = Uint32Array.of(tag);
    return this.#add('read', 'c2', ZERO_TAG, from, to, { values, ...more });
  }

  swap(tag: number, expected: number, version: number, from: number, to: number): OpRecord {
    return this.#add('swap', 'c1', tag, from, to, { expected, version });
  }

  look(version: number, from: number, to: number): OpRecord {
    return this.#add('stat', 'c2', ZERO_TAG, from, to, { version });
  }

  #add(
    kind: OpKind,
    client: string,
    tag: number,
    from: number,
    to: number,
    more: Partial<OpRecord>,
  ): OpRecord {
    const { object } = this;
    const op = this.history.add({ kind, client, object, from: 0, to: 1, tag, calledAt: from });
    return Object.assign(op, { answeredAt: to, epoch: 1 }, more);
  }
}

type Judge = (history: History, object: UsedObject) => string | null;

/** Cases that both judges of blocks see alike. */
function blockStories(name: string, use: ObjectUse, judge: Judge): void {
  const told = (tell: (told: Told) => void): string | null => {
    const one = new Told(use);
    tell(one);
    return judge(one.history, one.object);
  };
  t.test(`${name}: what a register may show is accepted`, async (t) => {
    const fine: Record<string, (told: Told) => void> = {
      'zeros before the first write': (h) => {
        h.read(0, 1, 2);
        h.write(1, 3, 4);
        h.read(1, 5, 6);
      },
      'old or new while a write is under way': (h) => {
        h.write(1, 1, 2);
        h.write(2, 3, 10);
        h.read(1, 4, 5);
        h.read(2, 6, 7);
        h.read(2, 11, 12);
      },
      'a write without an answer that was made': (h) => {
        h.write(1, 1, 2);
        h.write(2, 3, Infinity);
        h.read(1, 4, 5);
        h.read(2, 100, 101);
      },
      'a write without an answer that was not made': (h) => {
        h.write(1, 1, 2);
        h.write(2, 3, Infinity);
        h.read(1, 100, 101);
      },
      'an unflushed write that was lost with the power': (h) => {
        h.write(1, 1, 2, { isFlushed: true });
        h.write(2, 3, 4);
        h.read(2, 5, 6);
        h.history.lost(0, 2);
        h.read(1, 7, 8, { epoch: 2 });
      },
      'an unflushed write that was not lost with the power': (h) => {
        h.write(1, 1, 2, { isFlushed: true });
        h.write(2, 3, 4);
        h.history.lost(0, 2);
        h.read(2, 7, 8, { epoch: 2 });
      },
    };
    for (const [story, tell] of Object.entries(fine)) t.equal(told(tell), null, story);
  });
  t.test(`${name}: what no register shows is refused`, async (t) => {
    const wrong: Record<string, (told: Told) => void> = {
      'an old value after the new one was answered': (h) => {
        h.write(1, 1, 2);
        h.write(2, 3, 4);
        h.read(1, 5, 6);
      },
      'an old value after somebody saw the new one': (h) => {
        h.write(1, 1, 2);
        h.write(2, 3, 20);
        h.read(2, 4, 5);
        h.read(1, 6, 7);
      },
      'zeros after a write': (h) => {
        h.write(1, 1, 2);
        h.read(0, 3, 4);
      },
      'a value before it was written': (h) => {
        h.read(1, 1, 2);
        h.write(1, 3, 4);
      },
      'a value that nobody wrote': (h) => {
        h.write(1, 1, 2);
        h.read(7, 3, 4);
      },
      'a flushed write that was lost with the power': (h) => {
        h.write(1, 1, 2, { isFlushed: true });
        h.write(2, 3, 4, { isFlushed: true });
        h.history.lost(0, 2);
        h.read(1, 7, 8, { epoch: 2 });
      },
      'a lost write that comes back': (h) => {
        h.write(1, 1, 2);
        h.write(2, 3, 4);
        h.history.lost(0, 2);
        h.read(1, 7, 8, { epoch: 2 });
        h.read(2, 9, 10, { epoch: 2 });
      },
    };
    for (const [story, tell] of Object.entries(wrong)) t.ok(told(tell), story);
  });
}

blockStories('one writer', 'own', judgeSingleWriter);
blockStories('many writers', 'shared', judgeZones);

t.test('two writes at once may come in either order, but in one', async (t) => {
  const both = (first: number, second: number): string | null => {
    const h = new Told('shared');
    h.write(1, 1, 10);
    h.write(2, 1, 10);
    h.read(first, 11, 12);
    h.read(second, 13, 14);
    return judgeZones(h.history, h.object);
  };
  t.equal(both(1, 1), null);
  t.equal(both(2, 2), null);
  t.ok(both(1, 2));
  t.ok(both(2, 1));
});

t.test('swaps go on from each other', async (t) => {
  const told = (tell: (told: Told) => void): string | null => {
    const h = new Told('header');
    tell(h);
    return judgeSwaps(h.history, h.object);
  };
  t.equal(
    told((h) => {
      h.swap(1, 0, 5, 1, 2);
      h.look(5, 3, 4);
      h.swap(2, 5, 7, 5, 6);
      h.read(2, 7, 8);
      h.look(7, 7, 8);
    }),
    null,
  );
  t.ok(
    told((h) => {
      h.swap(1, 0, 5, 1, 2);
      h.swap(2, 0, 6, 3, 4);
    }),
    'two from one version',
  );
  t.ok(
    told((h) => {
      h.swap(1, 0, 5, 1, 2);
      h.look(0, 3, 4);
    }),
    'a version that is older than one that was made',
  );
  t.ok(
    told((h) => {
      h.swap(1, 0, 5, 1, 2);
      h.swap(2, 5, 7, 3, 4);
      h.read(1, 5, 6);
    }),
    'a content that was replaced',
  );
});

/** When a block may be taken for lost: only if everybody in sync has said that it is bad. */
import { ObjectRef, OBJECT_KIND } from '@store/core';
import t from 'tap';
import type { GroupPrimary } from './group-primary.js';
import { areGoodNowhere } from './read-repair.js';
import type { ReplicaNode } from './replica-node.js';
import type { ReplicaPool } from './replica-pool.js';

const OBJECT = new ObjectRef(OBJECT_KIND.imageData, 'layer_0', 'family_0');
const BLOCK = 3;

/**
 * @param here - Bad blocks of the primary
 * @param answers - What members in sync say of theirs; null: they have no such object; undefined: they do not answer
 */
function isNowhere(
  here: readonly number[],
  answers: readonly (readonly number[] | null | undefined)[],
): boolean | null {
  const store = { verify: (...[, done]) => done(null, here) } as Partial<ReplicaPool>;
  const joining = { daemon: 9, startId: 'j9', isInSync: false };
  const members = answers.map((_, index) => ({ daemon: index, startId: 'a', isInSync: true }));
  const questions = {
    ask: (...[{ daemon }, , done]: Parameters<ReplicaNode['questions']['ask']>) => {
      const bad = answers[daemon];
      const named = { pool: 1, group: 7, epoch: 2, id: 1 };
      done(bad === undefined ? null : { type: 'verified', ...named, bad });
    },
  };
  let said: boolean | null = null;
  areGoodNowhere(
    // Only these parts of them are used.
    { questions } as unknown as ReplicaNode,
    { streams: [joining, ...members], pool: 1, number: 7, epoch: 2 } as unknown as GroupPrimary,
    store as ReplicaPool,
    OBJECT,
    { first: BLOCK, last: BLOCK },
    (answer) => (said = answer),
  );
  return said;
}

t.test('a block is lost only if all in sync have said that it is bad', async (t) => {
  t.equal(isNowhere([BLOCK], [[BLOCK], [1, BLOCK]]), true);
  t.equal(isNowhere([BLOCK], []), true, 'nobody else is in sync');
  t.equal(isNowhere([BLOCK], [[BLOCK], [1]]), false, 'one has it good');
  t.equal(isNowhere([BLOCK], [[BLOCK], undefined]), false, 'one does not answer');
  t.equal(isNowhere([BLOCK], [[BLOCK], null]), false, 'one has no such object, which is no damage');
  t.equal(isNowhere([1], [[BLOCK]]), false, 'it is good here by now');
});

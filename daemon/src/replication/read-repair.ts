/**
 * Mends blocks of the primary that do not match their checksums, with those of another member in sync. Only bytes that
 * match what is recorded here are taken, so nothing older can come back. Where the record itself is lost, or the object is
 * kept as a whole, and another member has it good, that one shall lead: this copy is made anew from it.
 */
import { BLOCK_BYTES, OBJECT_KIND } from '@store/core';
import type { ObjectPlace } from './change.js';
import type { StartOf } from './group-host.js';
import type { GroupPrimary } from './group-primary.js';
import type { GroupEpoch } from './peer-message.js';
import type { ReplicaNode } from './replica-node.js';
import type { ReplicaPool } from './replica-pool.js';

/** Blocks of one object that were found to be bad, and who mends them. */
interface Repair {
  readonly node: ReplicaNode;
  readonly primary: GroupPrimary;
  readonly store: ReplicaPool;
  readonly object: ObjectPlace;
}

/** @param done - Whether all blocks of the range that were bad are good now */
export function mendBlocks(
  node: ReplicaNode,
  primary: GroupPrimary,
  store: ReplicaPool,
  { kind, key, hash, place }: ObjectPlace,
  { first, last }: { readonly first: number; readonly last: number },
  done: (isMended: boolean) => void,
): void {
  const repair = { node, primary, store, object: { kind, key, hash, place } };
  const others = othersOf(primary);
  if (kind !== OBJECT_KIND.imageData) {
    leaveToOthers(repair, others, done);
    return;
  }
  store.verify(repair.object, (error, bad) => {
    const wanted = (bad ?? []).filter((block) => block >= first && block <= last);
    if (error !== null || wanted.length === 0) {
      done(error === null);
      return;
    }
    const { pool, number: group } = primary;
    node.log.warn(
      { pool, group, blocks: wanted.length, bytes: wanted.length * BLOCK_BYTES },
      'Blocks do not match their checksums here; they are fetched from another member',
    );
    let left = wanted.length;
    let areGood = true;
    for (const block of wanted)
      mendOne(repair, block, othersOf(primary), (isGood) => {
        areGood &&= isGood;
        left -= 1;
        if (left === 0) done(areGood);
      });
  });
}

function mendOne(
  repair: Repair,
  block: number,
  others: StartOf[],
  done: (isGood: boolean) => void,
): void {
  const { node, primary, store, object } = repair;
  const next = others.shift();
  if (next === undefined || primary.hasFailed) {
    done(false);
    return;
  }
  node.questions.ask(
    next,
    (id) => ({ type: 'askBlocks', id, ...epochOf(primary), object, first: block, count: 1 }),
    (answer) => {
      if (answer?.type !== 'blocks' || answer.blocks === null) {
        mendOne(repair, block, others, done);
        return;
      }
      store.mend(object, block, Buffer.concat(answer.blocks), (error, isGood) => {
        if (error !== null || isGood !== true)
          primary.giveUp('what is recorded of an object is damaged, and another member has it');
        done(error === null && isGood === true);
      });
    },
  );
}

/** If one of the others has all of the object good, that one shall lead. */
function leaveToOthers(repair: Repair, others: StartOf[], done: (isMended: boolean) => void): void {
  const { node, primary, object } = repair;
  const next = others.shift();
  if (next === undefined || primary.hasFailed) {
    done(false);
    return;
  }
  node.questions.ask(
    next,
    (id) => ({ type: 'askVerify', id, ...epochOf(primary), object }),
    (answer) => {
      if (answer?.type === 'verified' && answer.bad?.length === 0)
        primary.giveUp('an object is damaged here, and another member has it');
      leaveToOthers(repair, others, done);
    },
  );
}

function othersOf(primary: GroupPrimary): StartOf[] {
  return [...primary.streams].filter(({ isInSync }) => isInSync);
}

function epochOf({ pool, number: group, epoch }: GroupPrimary): GroupEpoch {
  return { pool, group, epoch };
}

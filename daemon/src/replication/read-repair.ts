/**
 * Mends blocks of the primary that do not match their checksums, with those of another member, also of one that only joins:
 * only bytes that match what is recorded here are taken, so nothing older can come back. Where the record itself is lost, or
 * the object is kept as a whole, and another member in sync has it good, that one shall lead: this copy is made anew from it.
 */
import { BLOCK_BYTES, OBJECT_KIND } from '@store/core';
import type { ObjectPlace } from './change.js';
import type { StartOf } from './group-host.js';
import type { GroupPrimary } from './group-primary.js';
import type { MemberStream } from './member-stream.js';
import type { GroupEpoch } from './peer-message.js';
import type { ReplicaNode } from './replica-node.js';
import type { ReplicaPool } from './replica-pool.js';

/** Mends all blocks of an object that are bad on the primary. @param done - Whether they are good now */
export type Mend = (
  primary: GroupPrimary,
  store: ReplicaPool,
  object: ObjectPlace,
  done: (isMended: boolean) => void,
) => void;

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
  const others = othersOf(primary).filter(({ isInSync }) => isInSync);
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
      mendOne(repair, block, [...othersOf(primary)], (isGood) => {
        areGood &&= isGood;
        left -= 1;
        if (left === 0) done(areGood);
      });
  });
}

function mendOne(
  repair: Repair,
  block: number,
  others: MemberStream[],
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
        if (error === null && isGood !== true && next.isInSync)
          primary.giveUp('what is recorded of an object is damaged, and another member has it');
        if (error === null && isGood !== true) mendOne(repair, block, others, done);
        else done(error === null);
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

/** Those in sync first. */
function othersOf(primary: GroupPrimary): MemberStream[] {
  return [...primary.streams].sort((a, b) => Number(b.isInSync) - Number(a.isInSync));
}

function epochOf({ pool, number: group, epoch }: GroupPrimary): GroupEpoch {
  return { pool, group, epoch };
}

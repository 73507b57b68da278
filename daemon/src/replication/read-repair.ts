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

/** Some blocks of an object. */
export interface BlockRange {
  readonly first: number;
  readonly last: number;
}

/**
 * Whether those blocks of a range that are bad on the primary are bad on every other member in sync too: then nobody has
 * anything that they could be made of. @param done - False if one of them has them good, or does not answer
 */
export type AskNowhere = (
  primary: GroupPrimary,
  store: ReplicaPool,
  object: ObjectPlace,
  range: BlockRange,
  done: (isNowhere: boolean) => void,
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
  { first, last }: BlockRange,
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

/** See `AskNowhere`. */
export function areGoodNowhere(
  node: ReplicaNode,
  primary: GroupPrimary,
  store: ReplicaPool,
  object: ObjectPlace,
  { first, last }: BlockRange,
  done: (isNowhere: boolean) => void,
): void {
  store.verify(object, (error, bad) => {
    const wanted = (bad ?? []).filter((block) => block >= first && block <= last);
    const others = othersOf(primary).filter(({ isInSync }) => isInSync);
    let left = others.length;
    let isNowhere = error === null && wanted.length > 0;
    if (!isNowhere || left === 0) {
      done(isNowhere);
      return;
    }
    for (const other of others)
      node.questions.ask(
        other,
        (id) => ({ type: 'askVerify', id, ...epochOf(primary), object }),
        (answer) => {
          const badThere = answer?.type === 'verified' ? answer.bad : null;
          isNowhere &&= wanted.every((block) => badThere?.includes(block) === true);
          left -= 1;
          if (left === 0) done(isNowhere);
        },
      );
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

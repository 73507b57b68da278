/** What the processes of a simulated cluster say to each other, and how a message is copied on its way. */
import type { GroupRequest, Guard, LayerClaim, ObjectRef, StoreError } from '@store/core';
import type { Change, PeerMessage } from '@store/daemon/testing';
import type { SimMessage } from './sim-network.js';

export interface PeerEnvelope {
  readonly type: 'peer';
  readonly message: PeerMessage;
}

/** What clients overwrite their buffers with when they have their answer. */
export const POISON = 0xdb;

export type RequestOp = 'read' | 'write' | 'zero' | 'flush' | 'swap' | 'delete' | 'stat' | 'raise';

/** A client's request to a daemon. */
export interface Request {
  readonly type: 'request';
  readonly id: number;
  readonly op: RequestOp;
  readonly pool: number;
  readonly group: number;
  /** Of the group, as the client knows it. */
  readonly epoch: number;
  readonly ref: ObjectRef;
  readonly offset: number;
  readonly bytes: number;
  readonly data: Buffer | null;
  readonly checks: Uint32Array | null;
  readonly flags: number;
  /** Expected version. */
  readonly version: number;
  /** Of the writer; none: it has none. */
  readonly claim?: LayerClaim;
  /** That is raised. */
  readonly guard?: Guard;
}

export interface Answer {
  readonly type: 'answer';
  readonly id: number;
  readonly error: StoreError | null;
  readonly data: Buffer | null;
  readonly checks: Uint32Array | null;
  /** Of a swap or a look at it; of a delete 1 or 0. */
  readonly version: number;
}

/** Of a daemon to a master. */
export interface Register {
  readonly type: 'register';
  readonly diskId: string;
  readonly startId: string;
  readonly lostUnflushed: boolean;
}

export interface Registered {
  readonly type: 'registered';
  readonly daemonId: number;
}

export interface Ask {
  readonly type: 'ask';
  readonly id: number;
  readonly request: GroupRequest;
}

export interface Asked {
  readonly type: 'asked';
  readonly id: number;
  readonly error: StoreError | null;
}

/** Is there a newer map than this version? */
export interface Refresh {
  readonly type: 'refresh';
  readonly version: number;
}

export interface MapNews {
  readonly type: 'map';
  readonly bytes: Buffer;
}

/** A piece of a stream of bytes; null: nothing more comes. */
export interface StreamMessage {
  readonly type: 'stream';
  readonly data: Buffer | null;
}

/** Of a master that does not lead. */
export interface NotLeader {
  readonly type: 'notLeader';
}

export type ClusterMessage =
  | PeerEnvelope
  | Request
  | Answer
  | Register
  | Registered
  | Ask
  | Asked
  | Refresh
  | MapNews
  | NotLeader
  | StreamMessage;

/**
 * Everything that the sender may use again is another one in the copy. Null: it was used again already, and the bytes do not
 * match the checksum that a frame has.
 */
export function copyMessage(message: SimMessage): SimMessage | null {
  const known = message as ClusterMessage; // nobody sends anything else
  return isOverwritten(known) ? null : copied(known);
}

/** Blocks have checksums that their receiver looks at; whole objects have one in their frame. */
function isOverwritten(known: ClusterMessage): boolean {
  if (known.type === 'request') return known.data?.every(isPoison) ?? false;
  if (known.type !== 'peer' || known.message.type !== 'prepare') return false;
  const { change } = known.message;
  return change.op === 'whole' && change.content.length > 0 && change.content.every(isPoison);
}

function isPoison(byte: number): boolean {
  return byte === POISON;
}

function copied(known: ClusterMessage): ClusterMessage {
  switch (known.type) {
    case 'peer':
      return { type: 'peer', message: copyPeerMessage(known.message) };
    case 'request':
      return known.data === null
        ? known
        : { ...known, data: Buffer.from(known.data), checks: known.checks?.slice() ?? null };
    case 'answer':
      return known.data === null ? known : { ...known, data: Buffer.from(known.data) };
    default:
      return known;
  }
}

function copyPeerMessage(message: PeerMessage): PeerMessage {
  switch (message.type) {
    case 'prepare':
      return { ...message, change: copyChange(message.change) };
    case 'ack':
      return { ...message, indexes: [...message.indexes] };
    case 'tail':
    case 'inventory':
      return { ...message, entries: [...message.entries] } as PeerMessage; // of the same kind
    case 'blocks':
      return {
        ...message,
        blocks: message.blocks?.map((part) => Buffer.from(part)) ?? null,
        checks: message.checks.slice(),
      };
    default:
      return { ...message };
  }
}

function copyChange(change: Change): Change {
  const { kind, key, hash, place } = change.object;
  const object = { kind, key: Buffer.from(key), hash, place };
  switch (change.op) {
    case 'write':
      return {
        ...change,
        object,
        blocks: change.blocks.map((part) => Buffer.from(part)),
        checks: change.checks.slice(),
      };
    case 'whole':
      return { ...change, object, content: Buffer.from(change.content) };
    default:
      return { ...change, object };
  }
}

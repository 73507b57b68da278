/**
 * The frames between daemons and what they may hold (PROTOCOL.md, section 10). Numbers are never used again, nor those of
 * OP and CONTROL.
 *
 * Two connections make a link. What must never wait behind megabytes goes over `control`: leases, and the answers to
 * changes. Changes, everything that a primary asks about them, and long answers go over `data`, in the order they were
 * sent.
 */
import {
  BLOCK_BYTES,
  invariant,
  KEY_BYTES_MAX,
  MAP_BYTES_MAX,
  OBJECT_BYTES_MAX,
  PAYLOAD_BYTES_MAX,
  PROTOCOL_VERSION,
  StoreError,
  type FrameHeader,
} from '@store/core';
import type { PeerMessage } from '../replication/peer-message.js';

export const PEER = {
  /** Who is there, and whom it wants to speak with. */
  meet: 96,
  /** I am here, and have read so much. */
  pulse: 97,
  heartbeat: 98,
  grant: 99,
  prepare: 100,
  ack: 101,
  refusal: 102,
  behind: 103,
  sync: 104,
  synced: 105,
  askTail: 106,
  tail: 107,
  askInventory: 108,
  inventory: 109,
  askDigest: 110,
  digest: 111,
  askBlocks: 112,
  blocks: 113,
  askVerify: 114,
  verified: 115,
  askMap: 116,
  newerMap: 117,
  leaving: 118,
  doneWithout: 119,
} as const;

/** Which of the two connections of a link. */
export type Channel = 'control' | 'data';

export interface PeerRule {
  readonly name: keyof typeof PEER;
  readonly channel: Channel;
  /** Most bytes of a frame's body and payload. */
  readonly bodyBytesMax: number;
  readonly payloadBytesMax: number;
}

/** Blocks of one change: a write of 4 MiB that does not begin with a block touches one more. */
export const CHANGE_BLOCKS_MAX: number = PAYLOAD_BYTES_MAX / BLOCK_BYTES + 1;
/** Blocks of the longest object. */
export const BLOCKS_MAX: number = OBJECT_BYTES_MAX / BLOCK_BYTES;
/** Where a page of an inventory begins: a hash, a key, and room for what a later release needs. */
export const CURSOR_BYTES_MAX: number = 2 * KEY_BYTES_MAX;
/** In one frame; more go in the next. */
export const ACKS_MAX = 4096;
/** A list as payload. */
export const LIST_BYTES_MAX: number = 4 * 1024 * 1024;

const CHANGE_BYTES_MAX: number = CHANGE_BLOCKS_MAX * BLOCK_BYTES;
/** Fields and a key. */
const ASK_BYTES_MAX: number = 64 + CURSOR_BYTES_MAX;
const CHECKED_BYTES_MAX: number = ASK_BYTES_MAX + 4 * CHANGE_BLOCKS_MAX;

const RULES: ReadonlyMap<number, PeerRule> = new Map(
  (
    [
      // name, channel, body, payload
      ['pulse', 'control', 9, 0],
      ['heartbeat', 'control', 16, 0],
      ['grant', 'control', 17, 0],
      ['prepare', 'data', CHECKED_BYTES_MAX, CHANGE_BYTES_MAX],
      ['ack', 'control', 12 + 8 * ACKS_MAX, 0],
      ['refusal', 'control', 20, 0],
      ['behind', 'control', 28, 0],
      ['sync', 'data', 12, 0],
      ['synced', 'control', 9, 0],
      ['askTail', 'data', 12, 0],
      ['tail', 'data', 20, LIST_BYTES_MAX],
      ['askInventory', 'data', ASK_BYTES_MAX, 0],
      ['inventory', 'data', ASK_BYTES_MAX, LIST_BYTES_MAX],
      ['askDigest', 'data', ASK_BYTES_MAX, 0],
      ['digest', 'data', 48, LIST_BYTES_MAX],
      ['askBlocks', 'data', ASK_BYTES_MAX, 0],
      ['blocks', 'data', CHECKED_BYTES_MAX, CHANGE_BYTES_MAX],
      ['askVerify', 'data', ASK_BYTES_MAX, 0],
      ['verified', 'data', 28, LIST_BYTES_MAX],
      ['askMap', 'control', 8, 0],
      ['newerMap', 'data', 4, MAP_BYTES_MAX],
      ['leaving', 'control', 0, 0],
      ['doneWithout', 'control', 8, 0],
    ] as const
  ).map(([name, channel, bodyBytesMax, payloadBytesMax]) => [
    PEER[name],
    { name, channel, bodyBytesMax, payloadBytesMax },
  ]),
);

invariant(RULES.size === Object.keys(PEER).length - 1, 'every frame but the greeting has a rule');

/** Over which connection a message goes. */
export function channelOf(type: PeerMessage['type']): Channel {
  const rule = RULES.get(PEER[type]);
  invariant(rule !== undefined, 'every message has a rule');
  return rule.channel;
}

/**
 * Whether such a frame may come over this connection of a link, by its header.
 * @throws StoreError `E_BAD_FRAME` if not; `E_PROTOCOL_VERSION` if it is of another release
 */
export function checkPeerFrame(header: FrameHeader, channel: Channel): void {
  checkVersion(header);
  const rule = RULES.get(header.op);
  if (rule?.channel !== channel || header.isAnswer || header.status !== 0)
    throw new StoreError('E_BAD_FRAME', `A frame has no place here (operation ${header.op})`);
  if (header.bodyBytes > rule.bodyBytesMax || header.payloadBytes > rule.payloadBytesMax)
    throw new StoreError('E_BAD_FRAME', `A frame of operation ${rule.name} is too long`);
}

/** @throws StoreError `E_PROTOCOL_VERSION` */
export function checkVersion({ version }: FrameHeader): void {
  if (version !== PROTOCOL_VERSION)
    throw new StoreError(
      'E_PROTOCOL_VERSION',
      `This daemon speaks version ${PROTOCOL_VERSION} of the protocol, not ${version}; use programs of one release`,
    );
}

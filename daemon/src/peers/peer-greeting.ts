/** What two daemons say first on each of their connections: MEET and its answer. Little-endian. */
import {
  GREETING_BYTES_MAX,
  HEADER_BYTES,
  MESSAGE_BYTES_MAX,
  ERRORS,
  messageOf,
  putU32le,
  StoreError,
  u32le,
  writeAnswerHeader,
  writeRequestHeader,
  type FrameHeader,
} from '@store/core';
import { PEER, type Channel } from './peer-ops.js';

/** Who a daemon is. Ids are 32 hexadecimal digits. */
export interface PeerSelf {
  readonly clusterId: string;
  readonly daemon: number;
  readonly diskId: string;
  readonly startId: string;
}

/** Of the daemon that dials. */
export interface PeerGreeting extends PeerSelf {
  readonly versionMin: number;
  readonly versionMax: number;
  readonly channel: Channel;
  /** Whom it wants: nobody else answers. */
  readonly wanted: number;
  readonly wantedStart: string;
  /** Random; the same on both connections of a link. */
  readonly linkId: string;
}

const AT_VERSION_MIN = 0; // 1
const AT_VERSION_MAX = 1; // 1
const AT_CHANNEL = 2; //     1  CHANNEL
//                           1  0
const AT_DAEMON = 4; //      4
const AT_WANTED = 8; //      4
const AT_CLUSTER = 12; //   16
const AT_DISK = 28; //      16
const AT_START = 44; //     16
const AT_WANTED_START = 60; // 16
const AT_LINK = 76; //      16
const MEET_BYTES = 92;
const CHANNEL = { control: 1, data: 2 } as const;

export const LINK_ID_BYTES = 16;
const ID_BYTES = 16;

/** The frame of a greeting. */
export function encodeMeet(greeting: PeerGreeting): Buffer {
  const out = Buffer.alloc(HEADER_BYTES + MEET_BYTES);
  const body = out.subarray(HEADER_BYTES);
  body[AT_VERSION_MIN] = greeting.versionMin;
  body[AT_VERSION_MAX] = greeting.versionMax;
  body[AT_CHANNEL] = CHANNEL[greeting.channel];
  putU32le(body, greeting.daemon, AT_DAEMON);
  putU32le(body, greeting.wanted, AT_WANTED);
  body.write(greeting.clusterId, AT_CLUSTER, 'hex');
  body.write(greeting.diskId, AT_DISK, 'hex');
  body.write(greeting.startId, AT_START, 'hex');
  body.write(greeting.wantedStart, AT_WANTED_START, 'hex');
  body.write(greeting.linkId, AT_LINK, 'hex');
  writeRequestHeader(out, 0, PEER.meet, 0, 0, MEET_BYTES, 0);
  return out;
}

/**
 * What a greeting says, as far as any version can tell.
 * @throws StoreError `E_BAD_FRAME`
 */
export function decodeMeet(body: Buffer): PeerGreeting {
  // A later version may say more behind.
  if (body.length < MEET_BYTES) throw new StoreError('E_BAD_FRAME', 'A greeting is too short');
  const channel = body[AT_CHANNEL];
  if (channel !== CHANNEL.control && channel !== CHANNEL.data)
    throw new StoreError('E_BAD_FRAME', 'A greeting is for no connection of a link');
  return {
    versionMin: body[AT_VERSION_MIN] ?? 0,
    versionMax: body[AT_VERSION_MAX] ?? 0,
    channel: channel === CHANNEL.control ? 'control' : 'data',
    daemon: u32le(body, AT_DAEMON),
    wanted: u32le(body, AT_WANTED),
    clusterId: idAt(body, AT_CLUSTER),
    diskId: idAt(body, AT_DISK),
    startId: idAt(body, AT_START),
    wantedStart: idAt(body, AT_WANTED_START),
    linkId: idAt(body, AT_LINK),
  };
}

// The answer.
const ANSWER_AT_VERSION = 0; // 1  the one both speak
//                              3  0
const ANSWER_AT_DAEMON = 4; //  4
const ANSWER_AT_DISK = 8; //   16
const ANSWER_AT_START = 24; // 16
const ANSWER_BYTES = 40;

export interface PeerWelcome extends Omit<PeerSelf, 'clusterId'> {
  readonly version: number;
}

export function encodeWelcome(welcome: PeerWelcome): Buffer {
  const out = Buffer.alloc(HEADER_BYTES + ANSWER_BYTES);
  const body = out.subarray(HEADER_BYTES);
  body[ANSWER_AT_VERSION] = welcome.version;
  putU32le(body, welcome.daemon, ANSWER_AT_DAEMON);
  body.write(welcome.diskId, ANSWER_AT_DISK, 'hex');
  body.write(welcome.startId, ANSWER_AT_START, 'hex');
  writeAnswerHeader(out, 0, PEER.meet, 0, 0, ANSWER_BYTES, 0);
  return out;
}

/** Why somebody is not let in, for people. */
export function encodeRefusal(error: StoreError): Buffer {
  const text = Buffer.from(messageOf(error)).subarray(0, MESSAGE_BYTES_MAX);
  const out = Buffer.alloc(HEADER_BYTES + text.length);
  text.copy(out, HEADER_BYTES);
  writeAnswerHeader(out, 0, PEER.meet, 0, ERRORS[error.code].status, text.length, 0);
  return out;
}

/** @throws StoreError `E_BAD_FRAME` */
export function decodeWelcome(body: Buffer): PeerWelcome {
  if (body.length < ANSWER_BYTES)
    throw new StoreError('E_BAD_FRAME', 'The answer to a greeting is too short');
  return {
    version: body[ANSWER_AT_VERSION] ?? 0,
    daemon: u32le(body, ANSWER_AT_DAEMON),
    diskId: idAt(body, ANSWER_AT_DISK),
    startId: idAt(body, ANSWER_AT_START),
  };
}

/** @throws StoreError `E_BAD_FRAME` unless it can be a greeting, or the answer to one */
export function checkMeetFrame(header: FrameHeader, isAnswer: boolean): void {
  const { op, bodyBytes, payloadBytes } = header;
  if (op !== PEER.meet || header.isAnswer !== isAnswer || (!isAnswer && header.status !== 0))
    throw new StoreError('E_BAD_FRAME', `A frame is no greeting of a daemon (operation ${op})`);
  if (bodyBytes > GREETING_BYTES_MAX || payloadBytes > 0)
    throw new StoreError('E_BAD_FRAME', 'A greeting is too long');
}

function idAt(body: Buffer, at: number): string {
  return body.toString('hex', at, at + ID_BYTES);
}

/**
 * Generic netlink messages (linux/netlink.h, linux/genetlink.h): a header, a second header, and a list of attributes,
 * some of them lists again. Everything is in the byte order of the machine, little-endian on those we run on, and
 * padded to 4 bytes. Pure: bytes in, bytes out.
 */
import { StoreError } from '@store/core';

// nlmsghdr, 16 bytes, then genlmsghdr, 4 bytes
const AT_LENGTH = 0; //    4  of the whole message, without padding
const AT_TYPE = 4; //      2  family, or one of NETLINK_TYPE
const AT_FLAGS = 6; //     2
const AT_SEQUENCE = 8; //  4  the answer carries that of the request
const AT_PORT = 12; //     4  0: the kernel fills it in
const AT_COMMAND = 16; //  1
const AT_VERSION = 17; //  1, then 2 reserved
const NETLINK_HEADER_BYTES = 16;
const GENERIC_HEADER_BYTES = 20;

// nlattr, 4 bytes, then its data
const ATTRIBUTE_HEADER_BYTES = 4;
const ATTRIBUTE_NESTED = 0x8000;
const ATTRIBUTE_TYPE_MASK = 0x3fff;

export const NETLINK_FLAG = { REQUEST: 1, ACK: 4, ACK_TLVS: 0x200 } as const;
export const NETLINK_TYPE = { ERROR: 2 } as const;
/** NLMSGERR_ATTR_MSG: the kernel's own words. */
const ERROR_ATTRIBUTE_TEXT = 1;

export interface NetlinkMessage {
  readonly type: number;
  readonly flags: number;
  readonly sequence: number;
  /** What follows the netlink header. */
  readonly payload: Buffer;
}

export interface NetlinkAttribute {
  readonly type: number;
  readonly data: Buffer;
}

/** A request to a family of generic netlink. `attributes` are encoded and padded. */
export function encodeRequest(request: {
  readonly family: number;
  readonly sequence: number;
  readonly command: number;
  readonly version: number;
  readonly attributes: readonly Buffer[];
}): Buffer {
  const header = Buffer.alloc(GENERIC_HEADER_BYTES);
  const message = Buffer.concat([header, ...request.attributes]);
  message.writeUInt32LE(message.length, AT_LENGTH);
  message.writeUInt16LE(request.family, AT_TYPE);
  message.writeUInt16LE(NETLINK_FLAG.REQUEST | NETLINK_FLAG.ACK, AT_FLAGS);
  message.writeUInt32LE(request.sequence, AT_SEQUENCE);
  message.writeUInt32LE(0, AT_PORT);
  message.writeUInt8(request.command, AT_COMMAND);
  message.writeUInt8(request.version, AT_VERSION);
  return message;
}

/** An attribute, padded. */
export function encodeAttribute(type: number, data: Buffer): Buffer {
  const bytes = ATTRIBUTE_HEADER_BYTES + data.length;
  if (bytes > 0xffff) throw new StoreError('E_INVALID', `A netlink attribute of ${bytes} bytes`);
  const out = Buffer.alloc(padded(bytes));
  out.writeUInt16LE(bytes, 0);
  out.writeUInt16LE(type, 2);
  data.copy(out, ATTRIBUTE_HEADER_BYTES);
  return out;
}

export function encodeU32(type: number, value: number): Buffer {
  const data = Buffer.alloc(4);
  data.writeUInt32LE(value);
  return encodeAttribute(type, data);
}

/** A 64-bit number, `value` a whole one up to 2^53-1. */
export function encodeU64(type: number, value: number): Buffer {
  const data = Buffer.alloc(8);
  data.writeBigUInt64LE(BigInt(value));
  return encodeAttribute(type, data);
}

/** Text, with the NUL that ends it. */
export function encodeText(type: number, text: string): Buffer {
  return encodeAttribute(type, Buffer.from(`${text}\0`));
}

/** A list of attributes as one. */
export function encodeNested(type: number, attributes: readonly Buffer[]): Buffer {
  return encodeAttribute(type | ATTRIBUTE_NESTED, Buffer.concat(attributes));
}

/** Cuts what one `recv` brought into messages. @throws StoreError `E_FORMAT` */
export function decodeMessages(bytes: Buffer): NetlinkMessage[] {
  const messages: NetlinkMessage[] = [];
  for (let at = 0; at < bytes.length;) {
    if (bytes.length - at < NETLINK_HEADER_BYTES) throw malformed('a header is cut off');
    const length = bytes.readUInt32LE(at + AT_LENGTH);
    if (length < NETLINK_HEADER_BYTES || length > bytes.length - at)
      throw malformed(`a message of ${length} bytes where ${bytes.length - at} are`);
    messages.push({
      type: bytes.readUInt16LE(at + AT_TYPE),
      flags: bytes.readUInt16LE(at + AT_FLAGS),
      sequence: bytes.readUInt32LE(at + AT_SEQUENCE),
      payload: bytes.subarray(at + NETLINK_HEADER_BYTES, at + length),
    });
    at += padded(length);
  }
  return messages;
}

/** The command and the attributes of a generic message. @throws StoreError `E_FORMAT` */
export function decodeGeneric(message: NetlinkMessage): {
  command: number;
  attributes: NetlinkAttribute[];
} {
  const { payload } = message;
  const headerBytes = GENERIC_HEADER_BYTES - NETLINK_HEADER_BYTES;
  if (payload.length < headerBytes) throw malformed('a generic header is cut off');
  return {
    command: payload.readUInt8(0),
    attributes: decodeAttributes(payload.subarray(headerBytes)),
  };
}

/** A list of attributes, in order. @throws StoreError `E_FORMAT` */
export function decodeAttributes(bytes: Buffer): NetlinkAttribute[] {
  const attributes: NetlinkAttribute[] = [];
  for (let at = 0; at < bytes.length;) {
    if (bytes.length - at < ATTRIBUTE_HEADER_BYTES) throw malformed('an attribute is cut off');
    const length = bytes.readUInt16LE(at);
    if (length < ATTRIBUTE_HEADER_BYTES || length > bytes.length - at)
      throw malformed(`an attribute of ${length} bytes where ${bytes.length - at} are`);
    const type = bytes.readUInt16LE(at + 2) & ATTRIBUTE_TYPE_MASK;
    attributes.push({ type, data: bytes.subarray(at + ATTRIBUTE_HEADER_BYTES, at + length) });
    at += padded(length);
  }
  return attributes;
}

/** The data of an attribute that must be there and have at least `bytes`. @throws StoreError `E_FORMAT` */
export function attributeData(
  attributes: readonly NetlinkAttribute[],
  type: number,
  bytes: number,
): Buffer {
  const found = attributes.find((one) => one.type === type);
  if (found === undefined || found.data.length < bytes)
    throw malformed(`attribute ${type} is missing or too short`);
  return found.data;
}

/** Text up to its NUL. */
export function decodeText(data: Buffer): string {
  const end = data.indexOf(0);
  return data.toString('utf8', 0, end < 0 ? data.length : end);
}

/** The answer that ends a request: 0 or an error number, and the kernel's words if it has any. */
export function decodeAnswer(message: NetlinkMessage): { errno: number; text: string | null } {
  const { payload, flags } = message;
  const tlvsAt = 4 + NETLINK_HEADER_BYTES; // the error, and the header of the request
  if (payload.length < tlvsAt) throw malformed('an answer is cut off');
  const errno = -payload.readInt32LE(0);
  if ((flags & NETLINK_FLAG.ACK_TLVS) === 0) return { errno, text: null };
  const text = decodeAttributes(payload.subarray(tlvsAt)).find(
    ({ type }) => type === ERROR_ATTRIBUTE_TEXT,
  );
  return { errno, text: text === undefined ? null : decodeText(text.data) };
}

function padded(bytes: number): number {
  return (bytes + 3) & ~3;
}

function malformed(what: string): StoreError {
  return new StoreError('E_FORMAT', `The kernel sent a malformed netlink message: ${what}`);
}

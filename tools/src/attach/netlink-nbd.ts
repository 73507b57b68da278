/** What the kernel's NBD driver is asked and tells over generic netlink (linux/nbd-netlink.h), as bytes. */
import {
  attributeData,
  decodeAttributes,
  decodeGeneric,
  decodeText,
  encodeAttribute,
  encodeNested,
  encodeText,
  encodeU32,
  encodeU64,
  type NetlinkMessage,
} from './netlink-message.js';

export const NBD_FAMILY = 'nbd';
export const NBD_FAMILY_VERSION = 1;
export const NBD_EVENTS_GROUP = 'nbd_mc_group';

/** Commands of the family. LINK_DEAD is an event. */
export const NBD_NETLINK = {
  CONNECT: 1,
  DISCONNECT: 2,
  RECONFIGURE: 3,
  LINK_DEAD: 4,
  STATUS: 5,
} as const;

const ATTR = {
  INDEX: 1,
  SIZE_BYTES: 2,
  BLOCK_SIZE_BYTES: 3,
  TIMEOUT: 4,
  SERVER_FLAGS: 5,
  CLIENT_FLAGS: 6,
  SOCKETS: 7,
  DEAD_CONN_TIMEOUT: 8,
  DEVICE_LIST: 9,
  BACKEND_IDENTIFIER: 10,
} as const;
const SOCK_ITEM = 1;
const SOCK_FD = 1;
const DEVICE_ITEM = 1;
const DEVICE = { INDEX: 1, CONNECTED: 2 } as const;

/** The controller family, which knows all others. */
export const CONTROLLER = {
  family: 16,
  version: 2,
  getFamily: 3,
  attr: { FAMILY_ID: 1, FAMILY_NAME: 2, MCAST_GROUPS: 7 },
  group: { NAME: 1, ID: 2 },
} as const;

/** What a new device is made of. */
export interface NbdDeviceConfig {
  /** Null: the next free one. */
  readonly index: number | null;
  readonly sizeBytes: number;
  /** A power of two, 512 to the machine's page. */
  readonly blockBytes: number;
  /** NBD transmission flags. */
  readonly serverFlags: number;
  /** Whole seconds a request may stay unanswered before its link counts as dead; 0: for ever. */
  readonly timeoutSeconds: number;
  /** Whole seconds requests wait for a new link when all are dead. */
  readonly deadTimeoutSeconds: number;
  /** What stands in `/sys/block/nbdN/backend`; who reconfigures must say the same. */
  readonly identifier: string;
  /** Connected sockets past their handshake. */
  readonly descriptors: readonly number[];
}

/** Attributes of CONNECT. */
export function encodeConnect(config: NbdDeviceConfig): Buffer[] {
  return [
    ...(config.index === null ? [] : [encodeU32(ATTR.INDEX, config.index)]),
    encodeU64(ATTR.SIZE_BYTES, config.sizeBytes),
    encodeU64(ATTR.BLOCK_SIZE_BYTES, config.blockBytes),
    encodeU64(ATTR.SERVER_FLAGS, config.serverFlags),
    encodeU64(ATTR.TIMEOUT, config.timeoutSeconds),
    encodeU64(ATTR.DEAD_CONN_TIMEOUT, config.deadTimeoutSeconds),
    encodeU64(ATTR.CLIENT_FLAGS, 0),
    encodeText(ATTR.BACKEND_IDENTIFIER, config.identifier),
    encodeSockets(config.descriptors),
  ];
}

/** Attributes of RECONFIGURE that put sockets in the place of dead ones; surplus ones are ignored by the kernel. */
export function encodeReconfigure(
  index: number,
  identifier: string,
  descriptors: readonly number[],
): Buffer[] {
  return [
    encodeU32(ATTR.INDEX, index),
    encodeText(ATTR.BACKEND_IDENTIFIER, identifier),
    encodeSockets(descriptors),
  ];
}

/** Attributes of DISCONNECT and STATUS of one device. */
export function encodeIndex(index: number): Buffer[] {
  return [encodeU32(ATTR.INDEX, index)];
}

/** Attributes of the controller's question for a family. */
export function encodeGetFamily(name: string): Buffer[] {
  return [encodeText(CONTROLLER.attr.FAMILY_NAME, name)];
}

/** The device a CONNECT made, or a LINK_DEAD is about. */
export function decodeIndex(message: NetlinkMessage): { command: number; index: number } {
  const { command, attributes } = decodeGeneric(message);
  return { command, index: attributeData(attributes, ATTR.INDEX, 4).readUInt32LE() };
}

/** Each device and whether it is set up. */
export function decodeStatus(message: NetlinkMessage): { index: number; connected: boolean }[] {
  const { attributes } = decodeGeneric(message);
  return decodeAttributes(attributeData(attributes, ATTR.DEVICE_LIST, 0))
    .filter(({ type }) => type === DEVICE_ITEM)
    .map(({ data }) => {
      const device = decodeAttributes(data);
      return {
        index: attributeData(device, DEVICE.INDEX, 4).readUInt32LE(),
        connected: attributeData(device, DEVICE.CONNECTED, 1).readUInt8() !== 0,
      };
    });
}

/** The number of a family, and of its groups by name. */
export function decodeFamily(message: NetlinkMessage): {
  id: number;
  groups: ReadonlyMap<string, number>;
} {
  const { attributes } = decodeGeneric(message);
  const list = attributes.find(({ type }) => type === CONTROLLER.attr.MCAST_GROUPS);
  const groups = new Map<string, number>();
  for (const { data } of list === undefined ? [] : decodeAttributes(list.data)) {
    const group = decodeAttributes(data);
    const name = decodeText(attributeData(group, CONTROLLER.group.NAME, 1));
    groups.set(name, attributeData(group, CONTROLLER.group.ID, 4).readUInt32LE());
  }
  return { id: attributeData(attributes, CONTROLLER.attr.FAMILY_ID, 2).readUInt16LE(), groups };
}

function encodeSockets(descriptors: readonly number[]): Buffer {
  const item = (descriptor: number): Buffer => {
    const data = Buffer.alloc(4);
    data.writeUInt32LE(descriptor);
    return encodeNested(SOCK_ITEM, [encodeAttribute(SOCK_FD, data)]);
  };
  return encodeNested(ATTR.SOCKETS, descriptors.map(item));
}

/** What daemons and masters say to each other, as JSON. */
import { booleanIn, numberIn, textIn, type JsonFields } from '../wire/json-body.js';
import { StoreError } from '../util/errors.js';
import { ADDRESS_BYTES_MAX, LABEL_BYTES_MAX, MAP_ID_MAX } from '../map/map-limits.js';

const ID = /^[0-9a-f]{32}$/;
const NAME_BYTES_MAX = 512;
/** Of one daemon; more are not reported. */
export const REPORTED_POOLS_MAX = 256;
export const REPORTED_IMAGES_MAX = 128;
/** Of these pools the groups are told of, those with joins first: a report fits into the body of a frame. */
export const REPORTED_GROUPS_MAX = 32;

/** What a daemon says of itself when it comes. */
export interface DaemonRegistration {
  /** Of the cluster its folder belongs to; empty: to none yet. */
  readonly clusterId: string;
  /** 32 hexadecimal digits each. */
  readonly diskId: string;
  readonly startId: string;
  /** `host:port` where clients reach it. A host that means any address stands for where it comes from. */
  readonly address: string;
  /** Where daemons and masters reach it; empty: nowhere. */
  readonly peerAddress: string;
  readonly host: string;
  readonly rack: string;
  readonly capacityBytes: number;
  /** Its machine stopped without warning since its last start: answered, unflushed writes may be gone. */
  readonly lostUnflushed: boolean;
  /** Of the map that it keeps; 0: none. */
  readonly mapVersion: number;
}

/** What a daemon says of how it is. Numbers of work grow from its start on. */
export interface DaemonReport {
  readonly capacityBytes: number;
  readonly freeBytes: number;
  readonly mapVersion: number;
  readonly reads: number;
  readonly writes: number;
  readonly readBytes: number;
  readonly writeBytes: number;
  readonly readMs: number;
  readonly writeMs: number;
  readonly pools: readonly ReportedPool[];
  readonly images: readonly ReportedImage[];
  /** Removed pools of which nothing is left here. */
  readonly emptied: readonly number[];
  /** Of pools whose groups have joins or a scrub here. */
  readonly groups: readonly ReportedGroups[];
  /** The disk takes nothing new. */
  readonly isFull: boolean;
}

/** How much of a pool lies here. */
export interface ReportedPool {
  readonly id: number;
  readonly objects: number;
  readonly usedBytes: number;
  /** Of those, in groups that this daemon is the primary of: summed over all daemons each object counts once. */
  readonly ledObjects: number;
  readonly ledBytes: number;
}

/** Of the groups of one pool that this daemon is the primary of. */
export interface ReportedGroups {
  readonly pool: number;
  /** Members that are being brought in sync, and what was not yet compared with what they have: an estimate, and at most. */
  readonly joining: number;
  readonly objectsLeft: number;
  readonly bytesLeft: number;
  readonly bytesPerSecond: number;
  /** Since the last scrub of all groups ended, by its kind; null: none has. */
  readonly lastLightSeconds: number | null;
  readonly lastDeepSeconds: number | null;
  /** Since the start of the daemon. */
  readonly errorsFound: number;
  readonly errorsRepaired: number;
}

export interface ReportedImage {
  readonly pool: number;
  readonly name: string;
  readonly sizeBytes: number;
}

/** @throws StoreError `E_BAD_FRAME` */
export function decodeRegistration(fields: JsonFields): DaemonRegistration {
  return {
    clusterId: fields['clusterId'] === '' ? '' : idIn(fields, 'clusterId'),
    diskId: idIn(fields, 'diskId'),
    startId: idIn(fields, 'startId'),
    address: textIn(fields, 'address', ADDRESS_BYTES_MAX),
    peerAddress: textIn(fields, 'peerAddress', ADDRESS_BYTES_MAX),
    host: textIn(fields, 'host', LABEL_BYTES_MAX),
    rack: textIn(fields, 'rack', LABEL_BYTES_MAX),
    capacityBytes: numberIn(fields, 'capacityBytes', Number.MAX_SAFE_INTEGER),
    lostUnflushed: booleanIn(fields, 'lostUnflushed'),
    mapVersion: numberIn(fields, 'mapVersion', Number.MAX_SAFE_INTEGER),
  };
}

/** @throws StoreError `E_BAD_FRAME` */
export function decodeReport(fields: JsonFields): DaemonReport {
  const count = (name: string): number => numberIn(fields, name, Number.MAX_SAFE_INTEGER);
  return {
    capacityBytes: count('capacityBytes'),
    freeBytes: count('freeBytes'),
    mapVersion: count('mapVersion'),
    reads: count('reads'),
    writes: count('writes'),
    readBytes: count('readBytes'),
    writeBytes: count('writeBytes'),
    readMs: count('readMs'),
    writeMs: count('writeMs'),
    pools: listIn(fields, 'pools', REPORTED_POOLS_MAX, reportedPool),
    images: listIn(fields, 'images', REPORTED_IMAGES_MAX, (image) => ({
      pool: numberIn(image, 'pool', MAP_ID_MAX),
      name: textIn(image, 'name', NAME_BYTES_MAX),
      sizeBytes: numberIn(image, 'sizeBytes', Number.MAX_SAFE_INTEGER),
    })),
    emptied: listIn(fields, 'emptied', REPORTED_POOLS_MAX, (pool) =>
      numberIn(pool, 'id', MAP_ID_MAX),
    ),
    // Daemons that keep no copies say none of these.
    groups: has(fields, 'groups')
      ? listIn(fields, 'groups', REPORTED_GROUPS_MAX, reportedGroups)
      : [],
    isFull: has(fields, 'isFull') ? booleanIn(fields, 'isFull') : false,
  };
}

function reportedPool(fields: JsonFields): ReportedPool {
  const count = (name: string): number => numberIn(fields, name, Number.MAX_SAFE_INTEGER);
  const [objects, usedBytes] = [count('objects'), count('usedBytes')];
  return {
    id: numberIn(fields, 'id', MAP_ID_MAX),
    objects,
    usedBytes,
    ledObjects: has(fields, 'ledObjects') ? count('ledObjects') : objects,
    ledBytes: has(fields, 'ledBytes') ? count('ledBytes') : usedBytes,
  };
}

function reportedGroups(fields: JsonFields): ReportedGroups {
  const count = (name: string): number =>
    has(fields, name) ? numberIn(fields, name, Number.MAX_SAFE_INTEGER) : 0;
  const seconds = (name: string): number | null =>
    has(fields, name) && fields[name] !== null ? count(name) : null;
  return {
    pool: numberIn(fields, 'pool', MAP_ID_MAX),
    joining: count('joining'),
    objectsLeft: count('objectsLeft'),
    bytesLeft: count('bytesLeft'),
    bytesPerSecond: count('bytesPerSecond'),
    lastLightSeconds: seconds('lastLightSeconds'),
    lastDeepSeconds: seconds('lastDeepSeconds'),
    errorsFound: count('errorsFound'),
    errorsRepaired: count('errorsRepaired'),
  };
}

function has(fields: JsonFields, name: string): boolean {
  return fields[name] !== undefined;
}

/** The report as `decodeReport` takes it. */
export function encodeReport(report: DaemonReport): JsonFields {
  return { ...report, emptied: report.emptied.map((id) => ({ id })) };
}

function listIn<T>(
  fields: JsonFields,
  name: string,
  max: number,
  itemOf: (fields: JsonFields) => T,
): T[] {
  const value = fields[name];
  if (!Array.isArray(value) || value.length > max)
    throw new StoreError(
      'E_BAD_FRAME',
      `Field '${name}' of a message is no list of at most ${max}`,
    );
  return value.map((item: unknown) => {
    if (typeof item !== 'object' || item === null)
      throw new StoreError('E_BAD_FRAME', `Field '${name}' of a message lists no objects`);
    return itemOf(item as JsonFields); // an object that JSON.parse made has text as keys
  });
}

function idIn(fields: JsonFields, name: string): string {
  const id = textIn(fields, name, 32);
  if (ID.test(id)) return id;
  throw new StoreError(
    'E_BAD_FRAME',
    `Field '${name}' of a message is not 16 bytes in hexadecimal`,
  );
}

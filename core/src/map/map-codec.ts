/**
 * The storage map in bytes, as masters keep it and send it. A number is LEB128 (see map-bytes.ts), a text its length in
 * bytes as a number and UTF-8, an id 16 bytes.
 *
 *     "smap", version 2, cluster id, map version,
 *     count of daemons, and each: id less the one before, disk id, flags 1, [start id], address, [peer address],
 *       host, rack, weight, count of old starts, old start ids
 *     count of pools, and each: id less the one before, name, replicas 1, minReplicas 1, log2 of objectBytes 1, log2 of
 *       the number of groups 1, flags 1 (failure domain, durability * 4), groups
 *     count of blocked clients, names; count of blocked tickets, ids; CRC-32C of all before 4, little-endian
 *
 * A group: epoch, head 1 (members * 4, has a primary 2, lost writes 1), [lostAt, and 0 or lostAt - givenUpAt + 1],
 * members. A member: index of its daemon in the list * 3 + 0: not in sync, 1: the daemon's present start is, 2: an old
 * start is, whose index follows. Old starts stand with their daemon because after a power failure every member of every
 * group is one.
 *
 * In version 1, which is read and not written any more, nothing follows `lostAt`.
 *
 * A map has one form: no number is longer than it must be, lists are in order, no old start goes unused.
 */
import { crc32c, crc32cOf } from '../util/crc32c.js';
import { ID_BYTES, MapReader, MapWriter } from './map-bytes.js';
import * as limits from './map-limits.js';
import { POOL_NAME_BYTES_MAX } from '../util/limits.js';
import { badMap, checkMap, DURABILITIES, MEMBERSHIPS } from './map-rules.js';
import {
  FAILURE_DOMAINS,
  type MapDaemon,
  type MapGroup,
  type MapMember,
  type MapPool,
  type StorageMap,
} from './storage-map.js';

const MAGIC = Buffer.from('smap').readUInt32BE();
const VERSION = 2;
/** Knew no flushed writes that are lost. */
const VERSION_BEFORE = 1;
const CRC_BYTES = 4;
/** The least that a daemon, a pool (but its groups) and a group take; counts are checked against them. */
const DAEMON_BYTES_MIN: number = 3 + ID_BYTES + 8;
const POOL_BYTES_MIN = 10;
const GROUP_BYTES_MIN = 2;

const DAEMON_FLAGS = { started: 1, peer: 2, membership: 4 } as const;
const MEMBER = { joining: 0, present: 1, old: 2 } as const;
const MEMBER_KINDS = 3;

/** A daemon as members of groups name it. */
interface Listed {
  readonly index: number;
  readonly startId: string | null;
  readonly oldStarts: readonly string[];
}

/**
 * The same map gives the same bytes.
 * @throws StoreError `E_FORMAT` if the map breaks a rule
 */
export function encodeMap(map: StorageMap): Buffer {
  checkMap(map);
  const out = new MapWriter();
  for (const shift of [24, 16, 8, 0]) out.byte(MAGIC >>> shift);
  out.byte(VERSION);
  out.id(map.clusterId);
  out.number(map.version);
  const listed = listDaemons(map);
  out.number(map.daemons.length);
  let last = 0;
  for (const daemon of map.daemons) {
    writeDaemon(out, daemon, last, listed.get(daemon.id)?.oldStarts ?? []);
    last = daemon.id;
  }
  out.number(map.pools.length);
  last = 0;
  for (const pool of map.pools) {
    writePool(out, pool, last);
    for (const group of pool.groups) writeGroup(out, group, listed);
    last = pool.id;
  }
  out.number(map.blockedClients.length);
  for (const name of map.blockedClients) out.text(name);
  out.number(map.blockedTickets.length);
  for (const id of map.blockedTickets) out.id(id);
  out.u32(crc32c(out.bytes()));
  const bytes = Buffer.from(out.bytes());
  if (bytes.length > limits.MAP_BYTES_MAX)
    throw badMap(`It has ${bytes.length} bytes; ${limits.MAP_BYTES_MAX} are allowed`);
  return bytes;
}

/**
 * @param bytes - Borrowed: the map does not refer to them.
 * @throws StoreError `E_FORMAT` saying what is wrong
 */
export function decodeMap(bytes: Buffer): StorageMap {
  if (bytes.length > limits.MAP_BYTES_MAX)
    throw badMap(`It has ${bytes.length} bytes; ${limits.MAP_BYTES_MAX} are allowed`);
  const end = bytes.length - CRC_BYTES;
  if (end < CRC_BYTES + 1 || bytes.readUInt32BE() !== MAGIC) throw badMap('It is none of ours');
  if (crc32cOf(bytes, 0, end) !== bytes.readUInt32LE(end))
    throw badMap('It does not match its checksum');
  const reader = new MapReader(bytes.subarray(0, end));
  for (let at = 0; at < CRC_BYTES; at += 1) reader.byte();
  const format = reader.byte();
  if (format !== VERSION && format !== VERSION_BEFORE)
    throw badMap(`Its format is ${format}, this program knows ${VERSION}; install a newer one`);
  const clusterId = reader.id();
  const version = reader.number();
  const { daemons, oldStarts } = readDaemons(reader);
  const uses = oldStarts.map((starts) => new Set(starts));
  const knowsGivenUp = format === VERSION;
  const pools = readPools(reader, knowsGivenUp, (member) =>
    readMember(member, { daemons, oldStarts, uses }),
  );
  if (uses.some((unused) => unused.size > 0)) throw badMap('It lists an old start without use');
  const clients = reader.count('blocked clients', limits.BLOCKED_MAX, 2);
  const blockedClients = times(clients, () => reader.text('client', POOL_NAME_BYTES_MAX));
  const tickets = reader.count('blocked tickets', limits.BLOCKED_MAX, ID_BYTES);
  const blockedTickets = times(tickets, () => reader.id());
  reader.end();
  const map = { clusterId, version, daemons, pools, blockedClients, blockedTickets };
  checkMap(map);
  return map;
}

function listDaemons(map: StorageMap): ReadonlyMap<number, Listed> {
  const byId = new Map(map.daemons.map((daemon) => [daemon.id, daemon]));
  const old = new Map<number, Set<string>>();
  for (const { groups } of map.pools)
    for (const { members } of groups)
      for (const { daemon, inSync } of members) {
        if (inSync === null || inSync === byId.get(daemon)?.startId) continue;
        const starts = old.get(daemon);
        if (starts === undefined) old.set(daemon, new Set([inSync]));
        else starts.add(inSync);
      }
  return new Map(
    map.daemons.map(({ id, startId }, index) => [
      id,
      { index, startId, oldStarts: [...(old.get(id) ?? [])].sort() },
    ]),
  );
}

function writeDaemon(
  out: MapWriter,
  daemon: MapDaemon,
  last: number,
  oldStarts: readonly string[],
): void {
  out.number(daemon.id - last);
  out.id(daemon.diskId);
  const started = daemon.startId === null ? 0 : DAEMON_FLAGS.started;
  const peer = daemon.peerAddress === null ? 0 : DAEMON_FLAGS.peer;
  out.byte(started + peer + MEMBERSHIPS.indexOf(daemon.membership) * DAEMON_FLAGS.membership);
  if (daemon.startId !== null) out.id(daemon.startId);
  out.text(daemon.address);
  if (daemon.peerAddress !== null) out.text(daemon.peerAddress);
  out.text(daemon.host);
  out.text(daemon.rack);
  out.number(daemon.weight);
  out.number(oldStarts.length);
  for (const start of oldStarts) out.id(start);
}

function readDaemons(reader: MapReader): { daemons: MapDaemon[]; oldStarts: string[][] } {
  const count = reader.count('daemons', limits.DAEMONS_MAX, DAEMON_BYTES_MIN);
  const oldStarts: string[][] = [];
  let last = 0;
  const daemons = times(count, () => {
    const id = last + reader.number();
    last = id;
    const diskId = reader.id();
    const flags = reader.byte();
    const membership = MEMBERSHIPS[Math.floor(flags / DAEMON_FLAGS.membership)];
    if (membership === undefined) throw badMap(`Daemon ${id} has flags ${flags}`);
    const startId = (flags & DAEMON_FLAGS.started) === 0 ? null : reader.id();
    const address = reader.text('address', limits.ADDRESS_BYTES_MAX);
    const hasPeer = (flags & DAEMON_FLAGS.peer) !== 0;
    const peerAddress = hasPeer ? reader.text('address', limits.ADDRESS_BYTES_MAX) : null;
    const host = reader.text('label', limits.LABEL_BYTES_MAX);
    const rack = reader.text('label', limits.LABEL_BYTES_MAX);
    const weight = reader.number();
    oldStarts.push(readOldStarts(reader, startId));
    return { id, diskId, startId, address, peerAddress, host, rack, weight, membership };
  });
  return { daemons, oldStarts };
}

function readOldStarts(reader: MapReader, startId: string | null): string[] {
  const count = reader.count('old starts', limits.ALL_GROUPS_MAX, ID_BYTES);
  const starts = times(count, () => reader.id());
  for (const [index, start] of starts.entries())
    if (start === startId || start <= (starts[index - 1] ?? ''))
      throw badMap('The old starts of a daemon are out of order');
  return starts;
}

function writePool(out: MapWriter, pool: MapPool, last: number): void {
  out.number(pool.id - last);
  out.text(pool.name);
  out.byte(pool.replicas);
  out.byte(pool.minReplicas);
  out.byte(Math.log2(pool.objectBytes));
  out.byte(Math.log2(pool.groups.length));
  const domain = FAILURE_DOMAINS.indexOf(pool.failureDomain);
  out.byte(domain + DURABILITIES.indexOf(pool.durability) * 4);
}

function readPools(
  reader: MapReader,
  knowsGivenUp: boolean,
  memberOf: (reader: MapReader) => MapMember,
): MapPool[] {
  const count = reader.count('pools', limits.POOLS_MAX, POOL_BYTES_MIN);
  let last = 0;
  let allGroups = 0;
  return times(count, () => {
    const id = last + reader.number();
    last = id;
    const name = reader.text('pool name', POOL_NAME_BYTES_MAX);
    const [replicas, minReplicas] = [reader.byte(), reader.byte()];
    const [objectBits, groupBits, flags] = [reader.byte(), reader.byte(), reader.byte()];
    const failureDomain = FAILURE_DOMAINS[flags % 4];
    const durability = DURABILITIES[Math.floor(flags / 4)];
    if (failureDomain === undefined || durability === undefined)
      throw badMap(`Pool ${id} has flags ${flags}`);
    const groupCount = 2 ** groupBits;
    allGroups += groupCount;
    if (groupCount > limits.GROUPS_MAX || allGroups > limits.ALL_GROUPS_MAX)
      throw badMap(`Pool ${id} has ${groupCount} groups; that is too many`);
    reader.need('groups', groupCount * GROUP_BYTES_MIN);
    const groups = times(groupCount, () => readGroup(reader, knowsGivenUp, memberOf));
    const objectBytes = 2 ** objectBits;
    return { id, name, replicas, minReplicas, objectBytes, failureDomain, durability, groups };
  });
}

function writeGroup(out: MapWriter, group: MapGroup, listed: ReadonlyMap<number, Listed>): void {
  const { epoch, members, hasPrimary, lostAt, givenUpAt } = group;
  out.number(epoch);
  out.byte(members.length * 4 + (hasPrimary ? 2 : 0) + (lostAt > 0 ? 1 : 0));
  if (lostAt > 0) {
    out.number(lostAt);
    out.number(givenUpAt === 0 ? 0 : lostAt - givenUpAt + 1);
  }
  for (const { daemon, inSync } of members) {
    const found = listed.get(daemon);
    if (found === undefined) throw badMap(`A group names daemon ${daemon}, which there is not`);
    const first = found.index * MEMBER_KINDS;
    if (inSync === null) out.number(first + MEMBER.joining);
    else if (inSync === found.startId) out.number(first + MEMBER.present);
    else {
      out.number(first + MEMBER.old);
      out.number(found.oldStarts.indexOf(inSync));
    }
  }
}

function readGroup(
  reader: MapReader,
  knowsGivenUp: boolean,
  memberOf: (reader: MapReader) => MapMember,
): MapGroup {
  const epoch = reader.number();
  const head = reader.byte();
  const lostAt = (head & 1) === 0 ? 0 : reader.number();
  if ((head & 1) !== 0 && lostAt === 0) throw badMap('A group has lost writes at 0');
  const givenUp = knowsGivenUp && lostAt > 0 ? reader.number() : 0;
  if (givenUp > lostAt) throw badMap(`A group was given up ${givenUp} epochs before ${lostAt}`);
  const count = head >>> 2;
  if (count > limits.MEMBERS_MAX) throw badMap(`A group has ${count} members`);
  return {
    epoch,
    members: times(count, () => memberOf(reader)),
    hasPrimary: (head & 2) !== 0,
    lostAt,
    givenUpAt: givenUp === 0 ? 0 : lostAt - givenUp + 1,
  };
}

function readMember(
  reader: MapReader,
  from: {
    readonly daemons: readonly MapDaemon[];
    readonly oldStarts: readonly (readonly string[])[];
    /** Old starts that no member named yet. */
    readonly uses: readonly Set<string>[];
  },
): MapMember {
  const word = reader.number();
  const index = Math.floor(word / MEMBER_KINDS);
  const kind = word % MEMBER_KINDS;
  const daemon = from.daemons[index];
  if (daemon === undefined) throw badMap(`A group names daemon at place ${index}, which is none`);
  if (kind === MEMBER.joining) return { daemon: daemon.id, inSync: null };
  const inSync =
    kind === MEMBER.present ? daemon.startId : from.oldStarts[index]?.[reader.number()];
  if (inSync === undefined || inSync === null)
    throw badMap(`A group names a start of daemon ${daemon.id} that is not listed`);
  if (kind === MEMBER.old) from.uses[index]?.delete(inSync);
  return { daemon: daemon.id, inSync };
}

function times<T>(count: number, make: () => T): T[] {
  const list: T[] = [];
  for (let index = 0; index < count; index += 1) list.push(make());
  return list;
}

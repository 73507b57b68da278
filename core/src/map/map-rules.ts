/**
 * What every storage map keeps, whoever made it. A map is checked before it is encoded and after it was decoded, by the
 * same function: what one release writes it can read, and what a peer sends is believed no further than this.
 */
import { messageOf, StoreError } from '../util/errors.js';
import { OBJECT_BYTES_MIN, POOL_NAME_BYTES_MAX } from '../util/limits.js';
import { nameProblem } from '../util/name-problem.js';
import { checkPoolName } from '../util/pool-name.js';
import * as limits from './map-limits.js';
import {
  FAILURE_DOMAINS,
  type MapDaemon,
  type MapGroup,
  type MapPool,
  type StorageMap,
} from './storage-map.js';

/** By their numbers in an encoded map. */
export const MEMBERSHIPS = ['in', 'draining', 'out'] as const;
/** By their numbers in an encoded map. */
export const DURABILITIES = ['flush', 'write'] as const;

const ID = /^[0-9a-f]{32}$/;
const ADDRESS = /^(?:\[[0-9A-Za-z:.%_-]+\]|[0-9A-Za-z._-]+):([1-9][0-9]{0,4})$/;

/**
 * Checks every rule of a map. Daemons, pools and what is blocked stand in ascending order without repetition (see
 * {@link orderedMap}), so that a map has one form only.
 * @throws StoreError `E_FORMAT` naming the first thing that is wrong
 */
export function checkMap(map: StorageMap): void {
  checkId('The cluster', 'id', map.clusterId);
  checkNumber('The map', 'version', map.version, 1, Number.MAX_SAFE_INTEGER);
  checkCount('daemons', map.daemons.length, limits.DAEMONS_MAX);
  checkCount('pools', map.pools.length, limits.POOLS_MAX);
  checkCount('blocked clients', map.blockedClients.length, limits.BLOCKED_MAX);
  checkCount('blocked tickets', map.blockedTickets.length, limits.BLOCKED_MAX);
  const daemons = checkDaemons(map.daemons);
  checkPools(map.pools, daemons);
  checkBlocked('clients', map.blockedClients, (name) => nameProblem(name, POOL_NAME_BYTES_MAX));
  checkBlocked('tickets', map.blockedTickets, (id) =>
    ID.test(id) ? null : 'is not 32 hexadecimal digits in small letters',
  );
}

/** The same map with its lists in the order that {@link checkMap} asks for. */
export function orderedMap(map: StorageMap): StorageMap {
  return {
    ...map,
    daemons: map.daemons.toSorted((a, b) => a.id - b.id),
    pools: map.pools.toSorted((a, b) => a.id - b.id),
    blockedClients: [...new Set(map.blockedClients)].sort(),
    blockedTickets: [...new Set(map.blockedTickets)].sort(),
  };
}

/** The error for a map that is refused. */
export function badMap(why: string, options?: { cause?: unknown }): StoreError {
  return new StoreError('E_FORMAT', `Bad storage map: ${why}`, options);
}

function checkDaemons(daemons: readonly MapDaemon[]): ReadonlyMap<number, MapDaemon> {
  const byId = new Map<number, MapDaemon>();
  const disks = new Map<string, number>();
  let last = 0;
  for (const daemon of daemons) {
    const who = `Daemon ${daemon.id}`;
    checkNumber('A daemon', 'id', daemon.id, 1, limits.MAP_ID_MAX);
    if (daemon.id <= last) throw badMap(`${who} comes after daemon ${last}`);
    last = daemon.id;
    checkId(who, 'disk id', daemon.diskId);
    if (daemon.startId !== null) checkId(who, 'start id', daemon.startId);
    const other = disks.get(daemon.diskId);
    if (other !== undefined) throw badMap(`${who} has the disk id of daemon ${other}`);
    disks.set(daemon.diskId, daemon.id);
    checkAddress(who, daemon.address);
    if (daemon.peerAddress !== null) checkAddress(who, daemon.peerAddress);
    checkLabel(who, 'host', daemon.host);
    checkLabel(who, 'rack', daemon.rack);
    checkNumber(who, 'weight', daemon.weight, 0, limits.WEIGHT_MAX);
    checkWord(who, 'membership', daemon.membership, MEMBERSHIPS);
    byId.set(daemon.id, daemon);
  }
  return byId;
}

function checkPools(pools: readonly MapPool[], daemons: ReadonlyMap<number, MapDaemon>): void {
  const names = new Set<string>();
  let last = 0;
  let allGroups = 0;
  for (const pool of pools) {
    const which = `Pool ${pool.id}`;
    checkNumber('A pool', 'id', pool.id, 1, limits.MAP_ID_MAX);
    if (pool.id <= last) throw badMap(`${which} comes after pool ${last}`);
    last = pool.id;
    checkSettings(which, pool);
    if (names.has(pool.name)) throw badMap(`${which} has the name of another pool`);
    names.add(pool.name);
    allGroups += pool.groups.length;
    checkCount('groups in all pools', allGroups, limits.ALL_GROUPS_MAX);
    pool.groups.forEach((group, index) => {
      const problem = groupProblem(group, daemons);
      if (problem !== null) throw badMap(`Group ${index} of pool ${pool.id} ${problem}`);
    });
  }
}

function checkSettings(which: string, pool: MapPool): void {
  try {
    checkPoolName(pool.name);
  } catch (error) {
    throw badMap(messageOf(error), { cause: error });
  }
  checkNumber(which, 'replicas', pool.replicas, 1, limits.REPLICAS_MAX);
  checkNumber(which, 'minReplicas', pool.minReplicas, 1, pool.replicas);
  const { objectBytes } = pool;
  checkNumber(which, 'objectBytes', objectBytes, OBJECT_BYTES_MIN, limits.OBJECT_BYTES_MAX);
  checkPower(which, 'objectBytes', objectBytes);
  checkWord(which, 'failureDomain', pool.failureDomain, FAILURE_DOMAINS);
  checkWord(which, 'durability', pool.durability, DURABILITIES);
  checkNumber(which, 'number of groups', pool.groups.length, 1, limits.GROUPS_MAX);
  checkPower(which, 'number of groups', pool.groups.length);
}

/** As the end of a sentence. No text is made for a group that is right: there are many of them. */
function groupProblem(group: MapGroup, daemons: ReadonlyMap<number, MapDaemon>): string | null {
  const { epoch, members, hasPrimary, lostAt, givenUpAt } = group;
  if (!isWhole(epoch, 1, limits.EPOCH_MAX)) return `has epoch ${epoch}`;
  if (!isWhole(lostAt, 0, epoch)) return `lost writes at ${lostAt}, but has epoch ${epoch}`;
  if (!isWhole(givenUpAt, 0, lostAt)) return `was given up at ${givenUpAt}, but lost at ${lostAt}`;
  if (members.length > limits.MEMBERS_MAX)
    return `has ${members.length} members; ${limits.MEMBERS_MAX} are allowed`;
  for (const [index, { daemon: id, inSync }] of members.entries()) {
    const daemon = daemons.get(id);
    if (daemon === undefined) return `names daemon ${id}, which there is not`;
    for (let before = 0; before < index; before += 1)
      if (members[before]?.daemon === id) return `names daemon ${id} twice`;
    if (inSync !== null && inSync !== daemon.startId && !ID.test(inSync))
      return `names a start of daemon ${id} that is not 32 hexadecimal digits in small letters`;
  }
  if (hasPrimary && (members[0]?.inSync ?? null) === null)
    return 'has a primary, but no first member that is in sync';
  return null;
}

function checkBlocked(
  what: string,
  list: readonly string[],
  problemOf: (text: string) => string | null,
): void {
  let last = '';
  for (const text of list) {
    const problem = problemOf(text);
    if (problem !== null) throw badMap(`${quoted(text)} among the blocked ${what} ${problem}`);
    if (text <= last) throw badMap(`${quoted(text)} among the blocked ${what} is out of order`);
    last = text;
  }
}

function checkId(whose: string, what: string, id: string): void {
  if (!ID.test(id))
    throw badMap(`${whose} has ${what} ${quoted(id)}, not 32 hexadecimal digits in small letters`);
}

function checkAddress(whose: string, address: string): void {
  const port = Number(ADDRESS.exec(address)?.[1] ?? NaN);
  if (address.length > limits.ADDRESS_BYTES_MAX || !(port <= 0xffff))
    throw badMap(`${whose} has address ${quoted(address)}, which is not HOST:PORT`);
}

function checkLabel(whose: string, what: string, label: string): void {
  const problem = nameProblem(label, limits.LABEL_BYTES_MAX);
  if (problem !== null) throw badMap(`The ${what} label of ${whose.toLowerCase()} ${problem}`);
}

function checkNumber(whose: string, what: string, value: number, min: number, max: number): void {
  if (!isWhole(value, min, max))
    throw badMap(`${whose} has ${what} ${value}, which is no whole number from ${min} to ${max}`);
}

function checkPower(whose: string, what: string, value: number): void {
  if (!Number.isInteger(Math.log2(value)))
    throw badMap(`${whose} has ${what} ${value}, which is no power of two`);
}

function checkWord(whose: string, what: string, word: string, words: readonly string[]): void {
  if (!words.includes(word)) throw badMap(`${whose} has ${what} ${quoted(word)}`);
}

function checkCount(what: string, count: number, max: number): void {
  if (count > max) throw badMap(`It has ${count} ${what}; ${max} are allowed`);
}

function isWhole(value: number, min: number, max: number): boolean {
  return Number.isInteger(value) && value >= min && value <= max;
}

function quoted(text: string): string {
  return JSON.stringify(text.length > 60 ? `${text.slice(0, 57)}...` : text);
}

/**
 * How a `ClusterState` lies in a state store:
 *
 *     cluster                 JSON: ids, counters, where the map is; changed by every decision
 *     map/<version>/<part>    the encoded storage map, in parts of at most 512 KiB
 *     daemon/<id>             JSON: DaemonRecord
 *     secret/<pool id>        JSON: texts of secrets, the newest first
 *     client/<name>           JSON: ClientRecord; the name in base64url, as keys are ASCII
 *     removed/<pool id>       JSON: RemovedPool
 *     blocked/<name>          JSON: until when
 *     behind                  JSON: of each MemberBehind the pool, group, daemon and time
 *     incident/<number>       JSON: IncidentRecord
 *
 * Since every decision changes `cluster`, and names the revision it has read of it, no two decisions are ever made from
 * the same state.
 */
import {
  decodeMap,
  encodeMap,
  messageOf,
  PoolSecret,
  StoreError,
  type StorageMap,
} from '@store/core';
import type { StateChange, StateEntry, StateSnapshot } from '../state/state-store.js';
import type {
  ClientRecord,
  ClusterState,
  DaemonRecord,
  IncidentRecord,
  MemberBehind,
  RemovedPool,
} from './cluster-state.js';

export const CLUSTER_KEY = 'cluster';
const BEHIND_KEY = 'behind';
const FORMAT = 1;
/** etcd takes values of up to 1.5 MiB, and a commit has other parts. */
const PART_BYTES: number = 512 * 1024;
const VERSION_DIGITS = 16;

interface ClusterDocument {
  readonly format: number;
  readonly serial: number;
  /** The term of the leader that decided, for who reads the history. */
  readonly by: string;
  readonly created: number;
  readonly recoveredFrom: number;
  readonly nextDaemonId: number;
  readonly nextPoolId: number;
  /** Before there was one: 0. */
  readonly recoveryRate?: number;
  readonly map: { readonly version: number; readonly parts: number };
}

/** What was read, and what the next decision must find unchanged. */
export interface StoredState {
  readonly state: ClusterState;
  /** Of the key `cluster`. */
  readonly revision: number;
}

/** @returns null if there is no cluster. @throws StoreError `E_FORMAT` if it cannot be what a master has written */
export function decodeState({ entries }: StateSnapshot): StoredState | null {
  const byKey = new Map(entries.map((entry) => [entry.key, entry]));
  const entry = byKey.get(CLUSTER_KEY);
  if (entry === undefined) return null;
  try {
    return readState(entry, entries, byKey);
  } catch (error) {
    if (error instanceof StoreError) throw error;
    // Not even the shape is ours.
    throw damaged(CLUSTER_KEY, messageOf(error));
  }
}

function readState(
  entry: StateEntry,
  entries: readonly StateEntry[],
  byKey: ReadonlyMap<string, StateEntry>,
): StoredState {
  const document = parse(entry) as ClusterDocument;
  if (document.format !== FORMAT)
    throw damaged(CLUSTER_KEY, `it has format ${document.format}, this program knows ${FORMAT}`);
  const { serial, created, recoveredFrom, nextDaemonId, nextPoolId, recoveryRate = 0 } = document;
  const numbers = [serial, created, recoveredFrom, nextDaemonId, nextPoolId, recoveryRate];
  for (const number of [...numbers, document.map.version])
    if (!Number.isSafeInteger(number) || number < 0)
      throw damaged(CLUSTER_KEY, 'a number is missing');
  return {
    revision: entry.revision,
    state: {
      serial,
      created,
      recoveredFrom,
      nextDaemonId,
      nextPoolId,
      recoveryRate,
      map: readMap(document.map, byKey),
      daemons: readAll(entries, 'daemon/', Number, readDaemonRecord),
      secrets: readAll(entries, 'secret/', Number, (one) =>
        (parse(one) as string[]).map((text) => PoolSecret.parse(one.key, text)),
      ),
      clients: readAll(entries, 'client/', nameFrom, (one) => {
        const record = parse(one) as Omit<ClientRecord, 'key'> & { key: string };
        return { ...record, key: Buffer.from(record.key, 'base64url') };
      }),
      removedPools: readAll(entries, 'removed/', Number, (one) => parse(one) as RemovedPool),
      blocked: readAll(entries, 'blocked/', nameFrom, (one) => parse(one) as number),
      behind: readBehind(byKey.get(BEHIND_KEY)),
      incidents: new Map(
        [...readAll(entries, 'incident/', Number, (one) => parse(one) as IncidentRecord)].sort(
          ([a], [b]) => a - b,
        ),
      ),
    },
  };
}

/**
 * What makes `next` of what is stored as `before`; null: of nothing.
 * @param by - The term of the leader that decided.
 * @returns `first`: parts of a map so large that it needs commits of its own, which nobody reads until `changes` are made
 */
export function changesBetween(
  before: ClusterState | null,
  next: ClusterState,
  by: string,
): { first: StateChange[]; changes: StateChange[] } {
  const parts = before?.map === next.map ? null : partsOf(encodeMap(next.map));
  if (parts !== null) partCounts.set(next.map, parts.length);
  const document: ClusterDocument = {
    format: FORMAT,
    serial: next.serial,
    by,
    created: next.created,
    recoveredFrom: next.recoveredFrom,
    nextDaemonId: next.nextDaemonId,
    nextPoolId: next.nextPoolId,
    recoveryRate: next.recoveryRate,
    map: {
      version: next.map.version,
      parts: parts?.length ?? partCountOf(before),
    },
  };
  const changes: StateChange[] = [
    { key: CLUSTER_KEY, value: json(document) },
    ...entryChanges(before?.daemons, next.daemons, (id) => `daemon/${id}`, json),
    ...entryChanges(
      before?.secrets,
      next.secrets,
      (id) => `secret/${id}`,
      (secrets) => json(secrets.map((secret) => secret.toText())),
    ),
    ...entryChanges(
      before?.clients,
      next.clients,
      (name) => `client/${nameTo(name)}`,
      (client) => json({ ...client, key: client.key.toString('base64url') }),
    ),
    ...entryChanges(before?.removedPools, next.removedPools, (id) => `removed/${id}`, json),
    ...entryChanges(before?.blocked, next.blocked, (name) => `blocked/${nameTo(name)}`, json),
    ...entryChanges(before?.incidents, next.incidents, (id) => `incident/${id}`, json),
  ];
  if (before === null ? next.behind.length > 0 : next.behind !== before.behind)
    changes.push({ key: BEHIND_KEY, value: json(next.behind.map(rowOf)) });
  if (parts === null) return { first: [], changes };
  const written = parts.map((value, index) => ({ key: partKey(next.map.version, index), value }));
  for (let index = 0; index < partCountOf(before); index += 1)
    changes.push({ key: partKey(before?.map.version ?? 0, index), value: null });
  return written.length === 1
    ? { first: [], changes: [...changes, ...written] }
    : { first: written, changes };
}

/** How many parts of a map lie in the store; the encoding tells, as it is one function of the map. */
const partCounts = new WeakMap<StorageMap, number>();

function partCountOf(state: ClusterState | null): number {
  if (state === null) return 0;
  const known = partCounts.get(state.map) ?? partsOf(encodeMap(state.map)).length;
  partCounts.set(state.map, known);
  return known;
}

function partsOf(bytes: Buffer): Buffer[] {
  const parts: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += PART_BYTES)
    parts.push(bytes.subarray(at, at + PART_BYTES));
  return parts;
}

function partKey(version: number, index: number): string {
  return `map/${String(version).padStart(VERSION_DIGITS, '0')}/${index}`;
}

function readMap(
  { version, parts }: ClusterDocument['map'],
  byKey: ReadonlyMap<string, StateEntry>,
): StorageMap {
  const found: Buffer[] = [];
  for (let index = 0; index < parts; index += 1) {
    const key = partKey(version, index);
    const part = byKey.get(key);
    if (part === undefined) throw damaged(key, 'it is missing');
    found.push(part.value);
  }
  const firstKey = partKey(version, 0);
  let map: StorageMap;
  try {
    map = decodeMap(Buffer.concat(found));
  } catch (error) {
    throw damaged(firstKey, messageOf(error));
  }
  if (map.version !== version)
    throw damaged(firstKey, `it is of version ${map.version} where ${version} should be`);
  return map;
}

/** One that was written before there were copies says nothing of losses. */
function readDaemonRecord(entry: StateEntry): DaemonRecord {
  const record = parse(entry) as Omit<DaemonRecord, 'lostSince'> & Partial<DaemonRecord>;
  return { ...record, lostSince: record.lostSince ?? [] };
}

function rowOf({ pool, group, daemon, since }: MemberBehind): number[] {
  return [pool, group, daemon, since];
}

/** @param entry - Undefined: nobody was ever behind. */
function readBehind(entry: StateEntry | undefined): MemberBehind[] {
  if (entry === undefined) return [];
  return (parse(entry) as [number, number, number, number][]).map(
    ([pool, group, daemon, since]) => ({ pool, group, daemon, since }),
  );
}

function readAll<K, V>(
  entries: readonly StateEntry[],
  prefix: string,
  keyFrom: (rest: string) => K,
  valueFrom: (entry: StateEntry) => V,
): ReadonlyMap<K, V> {
  return new Map(
    entries
      .filter(({ key }) => key.startsWith(prefix))
      .map((entry) => [keyFrom(entry.key.slice(prefix.length)), valueFrom(entry)]),
  );
}

function entryChanges<K, V>(
  before: ReadonlyMap<K, V> | undefined,
  next: ReadonlyMap<K, V>,
  keyOf: (key: K) => string,
  valueOf: (value: V) => Buffer,
): StateChange[] {
  if (before === next) return [];
  const changes: StateChange[] = [];
  for (const [key, value] of next)
    if (before?.get(key) !== value) changes.push({ key: keyOf(key), value: valueOf(value) });
  for (const key of before?.keys() ?? [])
    if (!next.has(key)) changes.push({ key: keyOf(key), value: null });
  return changes;
}

function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value));
}

/** What a master has written: its shape is ours, and whoever can write to the store can do anything. */
function parse(entry: StateEntry): unknown {
  try {
    return JSON.parse(entry.value.toString());
  } catch (error) {
    throw damaged(entry.key, messageOf(error));
  }
}

function nameTo(name: string): string {
  return Buffer.from(name).toString('base64url');
}

function nameFrom(text: string): string {
  return Buffer.from(text, 'base64url').toString();
}

function damaged(key: string, why: string): StoreError {
  return new StoreError(
    'E_FORMAT',
    `The state of the cluster cannot be used: '${key}': ${why}; see store master recover --help`,
  );
}

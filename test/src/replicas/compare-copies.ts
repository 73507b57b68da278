/**
 * Whether all copies of everything are the same, as found in the folders of daemons that do not run: each object of each
 * group is read by every member that is in sync, checked against its checksums, and compared.
 */
import {
  BLOCKS_PER_OBJECT,
  groupOf,
  promised,
  promisedWith,
  realEnv,
  silentLog,
  StoreError,
  type MapGroup,
  type MapPool,
  type StorageMap,
} from '@store/core';
import { engineNameOf, openFileStore, type FileStore, type ReplicaPool } from '@store/daemon';
import { createHash } from 'node:crypto';

export interface CopiesReport {
  /** Different objects that were found. */
  readonly objects: number;
  /** What differs, is damaged or is missing. */
  readonly differences: readonly string[];
}

type Place = Parameters<ReplicaPool['digest']>[0];
type Page = NonNullable<Parameters<Parameters<ReplicaPool['inventory']>[3]>[1]>;

/** What one copy of a group holds: by object, one line that says all of it. */
type Content = Map<string, string>;

const ALL = { from: 0, to: 0xffffffff };
const PAGE = 256;
const LAST_BLOCK: number = BLOCKS_PER_OBJECT - 1;

/** @param folders - Of the daemons, in any order; those that the map does not know count for nothing. */
export async function compareCopies(
  map: StorageMap,
  folders: readonly string[],
): Promise<CopiesReport> {
  const differences: string[] = [];
  const objects = new Set<string>();
  /** By daemon, then `pool/group`. */
  const found = new Map<number, Map<string, Content>>();
  for (const folder of folders) {
    const store = await openFileStore(realEnv(silentLog), folder, {
      create: false,
      onFailure: (error) => differences.push(`${folder}: ${error.message}`),
    });
    try {
      const diskId = store.diskId.toString('hex');
      const daemon = map.daemons.find((one) => one.diskId === diskId);
      if (daemon !== undefined) found.set(daemon.id, await contentOf(store, map));
    } finally {
      await store.close();
    }
  }
  for (const pool of map.pools)
    for (const [number, group] of pool.groups.entries()) {
      const name = `${pool.name}/${number}`;
      const copies = copiesOf(group, name, found, differences);
      const all = new Set(copies.flatMap(({ content }) => [...content.keys()]));
      for (const object of all) {
        objects.add(`${pool.name} ${object}`);
        const lines = copies.map(({ content }) => content.get(object) ?? 'is not there');
        const isSame = lines.every((line) => line === lines[0] && !line.includes('damaged'));
        if (!isSame)
          differences.push(
            `group ${name} object ${object}: ${copies.map(({ id }, at) => `daemon ${id} ${lines[at]}`).join(', ')}`,
          );
      }
    }
  return { objects: objects.size, differences };
}

function copiesOf(
  group: MapGroup,
  name: string,
  found: ReadonlyMap<number, ReadonlyMap<string, Content>>,
  differences: string[],
): { id: number; content: Content }[] {
  return group.members.flatMap(({ daemon: id, inSync }) => {
    if (inSync === null) differences.push(`group ${name} has a copy at ${id} that is not in sync`);
    const content = found.get(id);
    if (content === undefined) differences.push(`group ${name} has a copy at ${id}, not looked at`);
    return content === undefined ? [] : [{ id, content: content.get(name) ?? new Map() }];
  });
}

async function contentOf(store: FileStore, map: StorageMap): Promise<Map<string, Content>> {
  const groups = new Map<string, Content>();
  for (const pool of map.pools) {
    const copies = await openedPool(store, engineNameOf(map.clusterId, pool.id));
    if (copies !== null) await readPool(copies, pool, groups);
  }
  return groups;
}

async function openedPool(store: FileStore, name: string): Promise<ReplicaPool | null> {
  try {
    return await store.openPool(name, { create: false });
  } catch (error) {
    if (error instanceof StoreError && error.code === 'E_NOT_FOUND') return null;
    throw error;
  }
}

async function readPool(
  copies: ReplicaPool,
  pool: MapPool,
  groups: Map<string, Content>,
): Promise<void> {
  let after: Buffer | null = null;
  do {
    const from: Buffer | null = after;
    const page: Page = await promisedWith((done) => copies.inventory(ALL, from, PAGE, done));
    for (const { object, isBroken } of page.entries) {
      const name = `${pool.name}/${groupOf(pool, object.hash)}`;
      const content = groups.get(name) ?? new Map<string, string>();
      groups.set(name, content);
      content.set(
        `${object.kind} ${object.key.toString('latin1')}`,
        isBroken ? 'has a damaged record' : await lineOf(copies, object),
      );
    }
    after = page.next;
  } while (after !== null);
}

/**
 * Reads all of an object. Its bytes are compared, not their checksums: those of blocks that end in a checksum of their own are
 * all the same.
 * @returns What is the same in every good copy
 */
async function lineOf(copies: ReplicaPool, object: Place): Promise<string> {
  const bad = await promisedWith<readonly number[] | null>((done) => copies.verify(object, done));
  if (bad === null) return 'has a damaged object';
  if (bad.length > 0) return `has damaged blocks ${bad.join()}`;
  let version = 0;
  /** Runs of blocks come in any order. */
  const parts = new Map<number, string>();
  await promised((done) =>
    copies.present(
      object,
      0,
      LAST_BLOCK,
      (change) => {
        ({ version } = change);
        if (change.op === 'states' && change.count > 0)
          parts.set(change.first, `${change.count} blocks of state ${change.state}`);
        if (change.op === 'write') parts.set(change.first, digestOf(change.blocks));
        if (change.op === 'whole') parts.set(0, digestOf([change.content]));
      },
      done,
    ),
  );
  const sorted = [...parts].sort(([left], [right]) => left - right);
  const sum = createHash('sha1').update(JSON.stringify(sorted)).digest('hex');
  return `has version ${version}, ${sum.slice(0, 12)}`;
}

function digestOf(parts: readonly Buffer[]): string {
  const sum = createHash('sha1');
  for (const part of parts) sum.update(part);
  return sum.digest('hex');
}

import { invariant } from '../util/invariant.js';
import type { LocatorHash } from '../util/locator-hash.js';
import type { MapDaemon, MapGroup, MapPool, StorageMap } from './storage-map.js';

/** A storage map with what is looked up in it for each request found at once. */
export class MapView {
  readonly map: StorageMap;
  readonly #poolsById: ReadonlyMap<number, MapPool>;
  readonly #poolsByName: ReadonlyMap<string, MapPool>;
  readonly #daemonsById: ReadonlyMap<number, MapDaemon>;
  readonly #daemonsByDisk: ReadonlyMap<string, MapDaemon>;

  /** @param map - Checked (`checkMap`); not changed, and not to be. */
  constructor(map: StorageMap) {
    this.map = map;
    this.#poolsById = new Map(map.pools.map((pool) => [pool.id, pool]));
    this.#poolsByName = new Map(map.pools.map((pool) => [pool.name, pool]));
    this.#daemonsById = new Map(map.daemons.map((daemon) => [daemon.id, daemon]));
    this.#daemonsByDisk = new Map(map.daemons.map((daemon) => [daemon.diskId, daemon]));
  }

  poolById(id: number): MapPool | undefined {
    return this.#poolsById.get(id);
  }

  poolNamed(name: string): MapPool | undefined {
    return this.#poolsByName.get(name);
  }

  daemonById(id: number): MapDaemon | undefined {
    return this.#daemonsById.get(id);
  }

  /** @param diskId - 32 hexadecimal digits in small letters. */
  daemonOfDisk(diskId: string): MapDaemon | undefined {
    return this.#daemonsByDisk.get(diskId);
  }

  /** The daemons of a group of this map, in the order of its members. */
  daemonsOf(group: MapGroup): MapDaemon[] {
    return group.members.map(({ daemon: id }) => {
      const daemon = this.#daemonsById.get(id);
      invariant(daemon !== undefined, 'a checked map has every daemon that its groups name');
      return daemon;
    });
  }
}

/** The number of the group that a locator belongs to: the top bits of its hash. */
export function groupOf(pool: Pick<MapPool, 'groups'>, hash: LocatorHash): number {
  const bits = 31 - Math.clz32(pool.groups.length);
  // A shift by 32 is one by 0.
  return bits === 0 ? 0 : hash.high >>> (32 - bits);
}

/** Whether `a` replaces `b`: a later one of the same cluster. Never true for a map of another cluster. */
export function isNewer(a: StorageMap, b: StorageMap): boolean {
  return a.clusterId === b.clusterId && a.version > b.version;
}

/** How much the pools of the cluster hold here, and which images have their headers here: counted now and then. */
import {
  ImageCatalog,
  LIST_PAGE_MAX,
  messageOf,
  REPORTED_IMAGES_MAX,
  REPORTED_POOLS_MAX,
  StoreError,
  type CheckedPool,
  type Env,
  type ListOptions,
  type ListPage,
  type MapPool,
  type MapView,
  type ReportedImage,
  type ReportedPool,
} from '@store/core';
import type { ServedStore } from '../server/open-pools.js';
import { rangeOf } from '../replication/join.js';
import type { HashRange, ReplicaPool } from '../replication/replica-pool.js';
import { engineNameOf } from './clustered-store.js';

/** Between two counts, and at least so many times as long as the last one took. */
const PAUSE_MS = 15_000;
const PAUSE_SHARE = 20;
/** What the names of images may take of a report. */
const NAMES_BYTES_MAX: number = 24 * 1024;
/** Others get their turn between two pages. */
const PAGE_PAUSE_MS = 5;

export class PoolMeter {
  pools: readonly ReportedPool[] = [];
  images: readonly ReportedImage[] = [];
  readonly #env: Env;
  readonly #engine: ServedStore;
  readonly #ledGroups: (pool: number) => ReadonlySet<number> | null;
  #isCounting = false;
  #nextAt = 0;

  /** @param ledGroups - Of a pool, those that this daemon is the primary of; null: of all that it has */
  constructor(
    env: Env,
    engine: ServedStore,
    ledGroups: (pool: number) => ReadonlySet<number> | null,
  ) {
    this.#env = env;
    this.#engine = engine;
    this.#ledGroups = ledGroups;
  }

  /** To be called often: counts if it is time. */
  look({ map }: MapView): void {
    const { clock, log } = this.#env;
    if (this.#isCounting || clock.now() < this.#nextAt) return;
    this.#isCounting = true;
    const start = clock.now();
    this.#count(map.clusterId, map.pools.slice(0, REPORTED_POOLS_MAX))
      .catch((error: unknown) => {
        if (!(error instanceof StoreError)) throw error;
        log.debug({ code: error.code }, `Objects were not counted: ${messageOf(error)}`);
      })
      .finally(() => {
        this.#isCounting = false;
        const tookMs = clock.now() - start;
        this.#nextAt = clock.now() + Math.max(PAUSE_MS, tookMs * PAUSE_SHARE);
      });
  }

  async #count(clusterId: string, mapPools: readonly MapPool[]): Promise<void> {
    const present = new Set(await this.#engine.listPools());
    const pools: ReportedPool[] = [];
    const images: ReportedImage[] = [];
    let namesBytes = 0;
    for (const mapPool of mapPools) {
      const { id } = mapPool;
      const name = engineNameOf(clusterId, id);
      if (!present.has(name)) continue;
      const pool = await this.#engine.openPool(name, { create: false });
      pools.push({ id, ...(await this.#countPool(pool, mapPool)) });
      for (const image of await new ImageCatalog(pool, this.#env.random).list()) {
        if (!('size' in image) || images.length === REPORTED_IMAGES_MAX) continue;
        namesBytes += Buffer.byteLength(JSON.stringify(image.name));
        if (namesBytes > NAMES_BYTES_MAX) break;
        images.push({ pool: id, name: image.name, sizeBytes: image.size });
      }
    }
    this.pools = pools;
    this.images = images;
  }

  async #countPool(pool: CheckedPool, mapPool: MapPool): Promise<Omit<ReportedPool, 'id'>> {
    const led = this.#ledGroups(mapPool.id);
    if (led === null || !canListRanges(pool)) {
      const size = await this.#sizeOf((options) => pool.list(options));
      return { ...size, ledObjects: size.objects, ledBytes: size.usedBytes };
    }
    const [ours, others]: [HashRange[], HashRange[]] = [[], []];
    for (const group of mapPool.groups.keys())
      (led.has(group) ? ours : others).push(rangeOf(mapPool, group));
    const ledSize = await this.#sizeOf((options) => pool.listIn(ours, options));
    const otherSize = await this.#sizeOf((options) => pool.listIn(others, options));
    return {
      objects: ledSize.objects + otherSize.objects,
      usedBytes: ledSize.usedBytes + otherSize.usedBytes,
      ledObjects: ledSize.objects,
      ledBytes: ledSize.usedBytes,
    };
  }

  async #sizeOf(
    list: (options: ListOptions) => Promise<ListPage>,
  ): Promise<{ objects: number; usedBytes: number }> {
    let [objects, usedBytes] = [0, 0];
    for (let cursor: Buffer | undefined; ;) {
      const from = cursor === undefined ? {} : { cursor };
      const page = await list({ limit: LIST_PAGE_MAX, ...from });
      objects += page.entries.length;
      for (const { stat } of page.entries) usedBytes += stat.allocatedBytes;
      ({ cursor } = page);
      if (cursor === undefined) return { objects, usedBytes };
      await this.#env.timers.sleep(PAGE_PAUSE_MS);
    }
  }
}

function canListRanges(pool: CheckedPool): pool is CheckedPool & Pick<ReplicaPool, 'listIn'> {
  return 'listIn' in pool;
}

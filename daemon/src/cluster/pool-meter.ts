/** How much the pools of the cluster hold here, and which images have their headers here: counted now and then. */
import {
  ImageCatalog,
  messageOf,
  REPORTED_IMAGES_MAX,
  REPORTED_POOLS_MAX,
  StoreError,
  type CheckedPool,
  type Env,
  type ImageInfo,
  type LayerNamesRequest,
  type ListedImage,
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
import { pagesOf } from './list-pages.js';

/** Between two counts, and at least so many times as long as the last one took. */
const PAUSE_MS = 15_000;
const PAUSE_SHARE = 20;
/** What the names of images may take of a report. */
const NAMES_BYTES_MAX: number = 24 * 1024;
/** Layers whose images are remembered, of each pool. */
const LAYERS_MAX = 65_536;

export class PoolMeter {
  pools: readonly ReportedPool[] = [];
  images: readonly ReportedImage[] = [];
  /** Names of images whose headers are here, by pool and the ids of their layers. */
  #names: ReadonlyMap<number, ReadonlyMap<string, string>> = new Map();
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

  /** Of which images these layers are: as of the last count, or as it is if there was none. */
  async namesOf(view: MapView, { pool, layers }: LayerNamesRequest): Promise<Map<string, string>> {
    let names = this.#names.get(pool);
    if (names === undefined) {
      const name = engineNameOf(view.map.clusterId, pool);
      const opened = await this.#engine.openPool(name, { create: false });
      names = layerNames(await this.#imagesIn(opened));
    }
    const found = layers.map((layer) => [layer, names.get(layer)] as const);
    return new Map(found.filter((one): one is [string, string] => one[1] !== undefined));
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
    const known = new Set(await this.#engine.listPools());
    const pools: ReportedPool[] = [];
    const images: ReportedImage[] = [];
    const names = new Map<number, ReadonlyMap<string, string>>();
    let namesBytes = 0;
    for (const mapPool of mapPools) {
      const { id } = mapPool;
      const name = engineNameOf(clusterId, id);
      if (!known.has(name)) continue;
      const pool = await this.#engine.openPool(name, { create: false });
      pools.push({ id, ...(await this.#countPool(pool, mapPool)) });
      const present = await this.#imagesIn(pool);
      names.set(id, layerNames(present));
      for (const image of present) {
        namesBytes += Buffer.byteLength(JSON.stringify(image.name));
        if (images.length === REPORTED_IMAGES_MAX || namesBytes > NAMES_BYTES_MAX) break;
        images.push({ pool: id, name: image.name, sizeBytes: image.size });
      }
    }
    this.pools = pools;
    this.images = images;
    this.#names = names;
  }

  /** Those whose headers can be read. */
  async #imagesIn(pool: CheckedPool): Promise<ImageInfo[]> {
    return (await new ImageCatalog(pool, this.#env.random).list()).filter(isReadable);
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
    for await (const page of pagesOf(list, this.#env.timers)) {
      objects += page.length;
      for (const { stat } of page) usedBytes += stat.allocatedBytes;
    }
    return { objects, usedBytes };
  }
}

function isReadable(image: ListedImage): image is ImageInfo {
  return !('problem' in image);
}

function layerNames(images: readonly ImageInfo[]): ReadonlyMap<string, string> {
  const names = images.flatMap(({ name, layers }) => layers.map((layer) => [layer, name] as const));
  return new Map(names.slice(0, LAYERS_MAX));
}

export function canListRanges(
  pool: CheckedPool,
): pool is CheckedPool & Pick<ReplicaPool, 'listIn'> {
  return 'listIn' in pool;
}

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
  type MapView,
  type ReportedImage,
  type ReportedPool,
} from '@store/core';
import type { ServedStore } from '../server/open-pools.js';
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
  #isCounting = false;
  #nextAt = 0;

  constructor(env: Env, engine: ServedStore) {
    this.#env = env;
    this.#engine = engine;
  }

  /** To be called often: counts if it is time. */
  look({ map }: MapView): void {
    const { clock, log } = this.#env;
    if (this.#isCounting || clock.now() < this.#nextAt) return;
    this.#isCounting = true;
    const start = clock.now();
    const ids = map.pools.slice(0, REPORTED_POOLS_MAX).map(({ id }) => id);
    this.#count(map.clusterId, ids)
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

  async #count(clusterId: string, ids: readonly number[]): Promise<void> {
    const present = new Set(await this.#engine.listPools());
    const pools: ReportedPool[] = [];
    const images: ReportedImage[] = [];
    let namesBytes = 0;
    for (const id of ids) {
      const name = engineNameOf(clusterId, id);
      if (!present.has(name)) continue;
      const pool = await this.#engine.openPool(name, { create: false });
      const size = await this.#sizeOf(pool);
      pools.push({ id, ...size, ledObjects: size.objects, ledBytes: size.usedBytes });
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

  async #sizeOf(pool: CheckedPool): Promise<{ objects: number; usedBytes: number }> {
    let [objects, usedBytes] = [0, 0];
    for (let cursor: Buffer | undefined; ;) {
      const from = cursor === undefined ? {} : { cursor };
      const page = await pool.list({ limit: LIST_PAGE_MAX, ...from });
      objects += page.entries.length;
      for (const { stat } of page.entries) usedBytes += stat.allocatedBytes;
      ({ cursor } = page);
      if (cursor === undefined) return { objects, usedBytes };
      await this.#env.timers.sleep(PAGE_PAUSE_MS);
    }
  }
}

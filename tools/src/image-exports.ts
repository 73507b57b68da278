/**
 * The images of a pool as exports of the NBD server. Connections to one name share one `Image`. When the last one
 * leaves, what it wrote is flushed: a client that went away without asking for that still expects to find it.
 */
import {
  formatSize,
  IMAGE_ABILITIES,
  promised,
  StoreError,
  type Image,
  type ImageCatalog,
  type ImageInfo,
} from '@store/core';
import type { ExportCatalog, ExportFacts, ExportInfo, OpenExport } from '@store/gateway-nbd';

export interface ImageExportsOptions {
  /** The one image to export, also under the empty name; null: all of the pool. */
  readonly only: string | null;
  readonly readOnly: boolean;
  /** Nobody is answered before it resolves: what clients ask for may still have to be made. */
  readonly ready?: Promise<void>;
  /** An image counts as open; before its header is read this has to resolve. */
  readonly beforeOpen?: (image: string) => Promise<void>;
}

interface Shared {
  readonly image: Promise<Image>;
  users: number;
}

export class ImageExports implements ExportCatalog {
  readonly #catalog: ImageCatalog;
  readonly #only: string | null;
  readonly #readOnly: boolean;
  readonly #ready: Promise<void>;
  readonly #beforeOpen: (image: string) => Promise<void>;
  readonly #open = new Map<string, Shared>();

  constructor(catalog: ImageCatalog, options: ImageExportsOptions) {
    this.#catalog = catalog;
    this.#only = options.only;
    this.#readOnly = options.readOnly;
    this.#ready = options.ready ?? Promise.resolve();
    this.#beforeOpen = options.beforeOpen ?? (() => Promise.resolve());
  }

  /** Nobody else may remove the image or change its size: clients use it, or it is the one that is exported. */
  serves(image: string): boolean {
    return image === this.#only || this.#open.has(image);
  }

  async list(): Promise<ExportInfo[]> {
    await this.#ready;
    if (this.#only !== null) {
      const found = await this.info(this.#only);
      return found === null ? [] : [{ name: this.#only, description: found.description }];
    }
    const images = await this.#catalog.list();
    return images.flatMap((image) =>
      'problem' in image || image.state === 'removing'
        ? []
        : [{ name: image.name, description: describe(image) }],
    );
  }

  async info(name: string): Promise<ExportFacts | null> {
    await this.#ready;
    const image = this.#imageOf(name);
    if (image === null) return null;
    return nullIfMissing(async () => {
      const info = await this.#catalog.info(image);
      if (info.state === 'removing') return null;
      const description = describe(info);
      return { ...IMAGE_ABILITIES, bytes: info.size, readOnly: this.#readOnly, description };
    });
  }

  async open(name: string): Promise<(OpenExport & { backend: Image }) | null> {
    await this.#ready;
    const image = this.#imageOf(name);
    if (image === null) return null;
    return nullIfMissing(async () => {
      const shared = this.#share(image);
      try {
        const backend = await shared.image;
        return { backend, name: image, close: () => this.#leave(image, shared, backend) };
      } catch (error) {
        this.#forget(image, shared);
        throw error;
      }
    });
  }

  /** Flushes every image that is in use. @throws StoreError */
  async flush(): Promise<void> {
    if (this.#readOnly) return;
    for (const { image } of [...this.#open.values()]) await flushed(await image);
  }

  #share(name: string): Shared {
    let shared = this.#open.get(name);
    if (shared === undefined) {
      const options = { readOnly: this.#readOnly };
      const image = this.#beforeOpen(name).then(() => this.#catalog.open(name, options));
      shared = { image, users: 0 };
      this.#open.set(name, shared);
    }
    shared.users += 1;
    return shared;
  }

  async #leave(name: string, shared: Shared, image: Image): Promise<void> {
    this.#forget(name, shared);
    if (shared.users > 0 || this.#readOnly) return;
    await flushed(image);
  }

  #forget(name: string, shared: Shared): void {
    shared.users -= 1;
    if (shared.users === 0 && this.#open.get(name) === shared) this.#open.delete(name);
  }

  /** The image an export name means; null if none can. */
  #imageOf(name: string): string | null {
    if (this.#only === null) return name === '' ? null : name;
    return name === '' || name === this.#only ? this.#only : null;
  }
}

function flushed(image: Image): Promise<void> {
  return promised((done) => {
    image.flush(done);
  });
}

/** A name that no image has, or that none can have, is no export; that is not an error. */
async function nullIfMissing<T>(work: () => Promise<T | null>): Promise<T | null> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof StoreError && (error.code === 'E_NOT_FOUND' || error.code === 'E_INVALID'))
      return null;
    throw error;
  }
}

function describe(image: ImageInfo): string {
  return `image of ${formatSize(image.size)}`;
}

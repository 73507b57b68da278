/**
 * The images of a pool as exports of the NBD server. Connections to one name share one `Image`. When the last one
 * leaves, what it wrote is flushed: a client that went away without asking for that still expects to find it.
 */
import {
  formatSize,
  IMAGE_ABILITIES,
  promised,
  StoreError,
  type ErrorCode,
  type Image,
  type ImageCatalog,
  type ImageInfo,
  type Log,
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
  /** Where the storage has writer roles: this server takes that of each image it opens, unless it only reads. */
  readonly roles?: RoleSettings;
}

export interface RoleSettings {
  readonly host: string;
  /** Take images from other hosts. */
  readonly force: boolean;
  /** Seconds since 1970. */
  readonly now: () => number;
  readonly log: Log;
}

/** The writer role of one image. */
interface Role {
  /** 0: the storage has none for it. */
  token: number;
  /** Somebody took it away while this server ran: it is not taken back from him. */
  wasLost: boolean;
}

const LOST: ReadonlySet<ErrorCode> = new Set(['E_FENCED', 'E_SEALED']);

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
  readonly #roleSettings: RoleSettings | null;
  readonly #open = new Map<string, Shared>();
  /** Of images that are open, and of the one that is exported. */
  readonly #roles = new Map<string, Role>();
  readonly #releasing = new Map<string, Promise<void>>();

  constructor(catalog: ImageCatalog, options: ImageExportsOptions) {
    this.#catalog = catalog;
    this.#only = options.only;
    this.#readOnly = options.readOnly;
    this.#ready = options.ready ?? Promise.resolve();
    this.#beforeOpen = options.beforeOpen ?? (() => Promise.resolve());
    this.#roleSettings = options.readOnly ? null : (options.roles ?? null);
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

  /** Sees that an image can be opened, and takes its writer role. @throws StoreError */
  async prepare(name: string): Promise<void> {
    await this.#openImage(name);
  }

  /** Gives the writer roles back: nothing is written any more. What cannot be told the storage is logged. */
  async release(): Promise<void> {
    for (const name of [...this.#roles.keys()]) this.#releaseLater(name);
    await Promise.all(this.#releasing.values());
  }

  /** Whoever opens it again waits for that. */
  #releaseLater(name: string): void {
    const releasing = this.#release(name).finally(() => this.#releasing.delete(name));
    this.#releasing.set(name, releasing);
  }

  async #openImage(name: string): Promise<Image> {
    const readOnly = this.#readOnly;
    const settings = this.#roleSettings;
    if (settings === null) return this.#catalog.open(name, { readOnly });
    await this.#releasing.get(name);
    const before = this.#roles.get(name);
    // Another one each time: what is still under way of an image that was closed says nothing of this one.
    const role: Role = { token: 0, wasLost: false };
    const { host, log } = settings;
    const image = await this.#catalog.open(name, {
      readOnly,
      role: {
        owner: { host, name },
        now: Math.floor(settings.now()),
        force: settings.force,
        held: before?.token ?? 0,
        wasLost: before?.wasLost ?? false,
        fenced: (why) => {
          role.wasLost = true;
          log.error(
            { image: name, code: why.code },
            `Image '${name}' was taken by another server; this one does nothing with it any more (${why.message})`,
          );
        },
      },
    });
    role.token = image.token;
    this.#roles.set(name, role);
    return image;
  }

  async #release(name: string): Promise<void> {
    const role = this.#roles.get(name);
    const settings = this.#roleSettings;
    // That it was lost is not forgotten: a client that comes again does not take it back.
    if (role === undefined || settings === null || role.wasLost) return;
    this.#roles.delete(name);
    if (role.token === 0) return;
    try {
      await this.#catalog.release(name, role.token, Math.floor(settings.now()));
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      settings.log.warn(
        { image: name, code: error.code },
        `The image is still marked as written by this host: ${error.message}`,
      );
    }
  }

  #share(name: string): Shared {
    let shared = this.#open.get(name);
    if (shared === undefined) {
      const image = this.#beforeOpen(name).then(() => this.#openImage(name));
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
    // The one that is exported stays this server's until it stops.
    if (this.#only === null && !this.#open.has(name)) this.#releaseLater(name);
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

/** Of an image that another server has taken there is nothing to flush: what was answered was made durable by that. */
async function flushed(image: Image): Promise<void> {
  try {
    await promised((done) => {
      image.flush(done);
    });
  } catch (error) {
    const isLost = error instanceof StoreError && LOST.has(error.code);
    if (!isLost) throw error;
  }
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

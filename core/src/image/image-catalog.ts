/**
 * The images of a pool. Whatever moment the process dies, an image is there whole, or it is not there, or its
 * header says what was going on and the next call finishes it:
 *
 * - `create` is one compare-and-swap;
 * - `remove` marks the header *removing*, removes the data, then the header; until then nobody can open it;
 * - shrinking marks the header *shrinking* with the new size, removes what lies behind it, then marks it *ready*;
 *   growing again before that finishes it first, so that the new end always reads as zeros.
 *
 * An image must not be open for writing elsewhere while it is resized or removed; the owner of the folder sees to it.
 */
import type { Random } from '../env/env.js';
import { OBJECT_KIND, type ObjectPool } from '../pool/object-pool.js';
import { StoreError } from '../util/errors.js';
import { LIST_PAGE_MAX } from '../util/limits.js';
import { dataIndexes, removeDataFrom, type OnProgress, type Removal } from './data-remover.js';
import { HeaderStore, noSuchImage, type StoredHeader } from './header-store.js';
import { checkImageSize, IMAGE_FORMAT, type ImageState } from './image-header.js';
import { checkImageName } from './image-name.js';
import { Image, stripesOf } from './image.js';

/** What there is to know about an image without reading its data. */
export interface ImageInfo {
  readonly name: string;
  readonly id: string;
  readonly size: number;
  readonly objectBytes: number;
  readonly state: ImageState;
  /** `ancestor`: an 8-byte header; see `upgrade`. */
  readonly kind: 'store' | 'ancestor';
  readonly metadata: Readonly<Record<string, string>>;
}

/** An entry of `list`: an image, or why its header cannot be read. */
export type ListedImage = ImageInfo | { readonly name: string; readonly problem: string };

const nothing: OnProgress = () => undefined;

export class ImageCatalog {
  readonly #pool: ObjectPool;
  readonly #headers: HeaderStore;

  /** @param random - Source of identities and request tokens */
  constructor(pool: ObjectPool, random: Random) {
    this.#pool = pool;
    this.#headers = new HeaderStore(pool, random);
  }

  /**
   * Makes an empty image, durably. It takes no space, whatever its size.
   * @param size - Bytes: a multiple of 512, up to 1 PiB
   * @throws StoreError `E_EXISTS`; `E_INVALID` for a bad name or size
   */
  async create(name: string, size: number): Promise<ImageInfo> {
    checkImageName(name);
    checkImageSize(size);
    const id = this.#headers.newId();
    try {
      const stored = await this.#headers.swap(name, 0, {
        format: IMAGE_FORMAT,
        id,
        family: id,
        size,
        objectBytes: this.#pool.objectBytes,
        layers: [{ id: this.#headers.newId(), overlap: 0 }],
        snapshots: [],
        metadata: {},
        writer: null,
        state: 'ready',
      });
      return infoOf(name, stored);
    } catch (error) {
      if (error instanceof StoreError && error.code === 'E_VERSION')
        throw new StoreError(
          'E_EXISTS',
          `There already is an image '${name}' in pool '${this.#pool.name}'`,
          { cause: error },
        );
      throw error;
    }
  }

  /**
   * Opens an image. A shrink that was interrupted is finished first, unless it is opened for reading only.
   * @throws StoreError `E_NOT_FOUND`, also if it is being removed; `E_FORMAT`
   */
  async open(name: string, options: { readOnly: boolean }): Promise<Image> {
    let stored = await this.#existing(name);
    refuseRemoving(name, stored);
    if (!options.readOnly) {
      stored = await this.#finishShrink(name, stored, nothing);
      refuseRemoving(name, stored);
    }
    return new Image(this.#pool.forUser(), name, stored.header, options);
  }

  /** @throws StoreError `E_NOT_FOUND`, `E_FORMAT` */
  async info(name: string): Promise<ImageInfo> {
    return infoOf(name, await this.#existing(name));
  }

  /** Bytes of an image's data that take space. Looks at every object of it. */
  async allocatedBytes(name: string): Promise<number> {
    const { header } = await this.#existing(name);
    let sum = 0;
    for await (const page of dataIndexes(this.#pool, stripesOf(name, header)))
      for (const { allocatedBytes } of page) sum += allocatedBytes;
    return sum;
  }

  /** All images but those of the ancestor's kind, which look like any object of 8 bytes; sorted by name. */
  async list(): Promise<ListedImage[]> {
    const found: ListedImage[] = [];
    let cursor: Buffer | undefined;
    do {
      const page = await this.#pool.list({
        kind: OBJECT_KIND.imageHeader,
        limit: LIST_PAGE_MAX,
        ...(cursor === undefined ? {} : { cursor }),
      });
      for (const { key } of page.entries) {
        const listed = await this.#listed(key.toString());
        if (listed !== null) found.push(listed);
      }
      cursor = page.cursor;
    } while (cursor !== undefined);
    return found.sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /**
   * Changes the size, durably. What lies behind a smaller end is gone; growing adds zeros.
   * @throws StoreError `E_NOT_FOUND`; `E_INVALID` for a bad size, or for an image of the ancestor's kind
   */
  async resize(name: string, size: number, onProgress: OnProgress = nothing): Promise<ImageInfo> {
    checkImageSize(size);
    const before = await this.#existing(name);
    refuseRemoving(name, before);
    if (before.kind === 'ancestor')
      throw new StoreError(
        'E_INVALID',
        `Image '${name}' has an 8-byte header; run store-image upgrade first`,
      );
    await this.#finishShrink(name, before, onProgress);
    const changed = await this.#headers.change(name, (stored) => {
      refuseRemoving(name, stored);
      if (stored.header.state !== 'ready')
        throw new StoreError(
          'E_IN_USE',
          `Image '${name}' is being resized by somebody else; try again`,
        );
      if (stored.header.size === size) return null;
      const state = size < stored.header.size ? 'shrinking' : 'ready';
      return { ...stored.header, size, state };
    });
    return infoOf(name, await this.#finishShrink(name, changed, onProgress));
  }

  /**
   * Removes an image and its data, durably. Run again after an interruption, it does the rest.
   * @throws StoreError `E_NOT_FOUND`, `E_FORMAT`
   */
  async remove(name: string, onProgress: OnProgress = nothing): Promise<void> {
    checkImageName(name);
    const removing = await this.#headers.change(name, (stored) => {
      stripesOf(name, stored.header);
      return stored.header.state === 'removing' ? null : { ...stored.header, state: 'removing' };
    });
    if (await removeDataFrom(this.#pool, this.#removal(name, removing, 0), onProgress))
      await this.#headers.delete(name, removing);
  }

  /** Gives an image of the ancestor's kind a real header; its data stay where they are. Others are left alone. */
  async upgrade(name: string): Promise<ImageInfo> {
    checkImageName(name);
    const upgraded = await this.#headers.change(name, (stored) =>
      stored.kind === 'ancestor' ? stored.header : null,
    );
    return infoOf(name, upgraded);
  }

  async #finishShrink(
    name: string,
    stored: StoredHeader,
    onProgress: OnProgress,
  ): Promise<StoredHeader> {
    const { header } = stored;
    if (header.state !== 'shrinking') return stored;
    await removeDataFrom(this.#pool, this.#removal(name, stored, header.size), onProgress);
    return this.#headers.change(name, (now) =>
      now.version === stored.version ? { ...now.header, state: 'ready' } : null,
    );
  }

  #removal(name: string, stored: StoredHeader, end: number): Removal {
    const { header } = stored;
    return {
      stripes: stripesOf(name, header),
      objectBytes: header.objectBytes,
      end,
      isCurrent: () => this.#headers.isCurrent(name, stored),
    };
  }

  async #existing(name: string): Promise<StoredHeader> {
    checkImageName(name);
    const stored = await this.#headers.load(name);
    if (stored === null) throw noSuchImage(name, this.#pool.name);
    return stored;
  }

  /** Null if it was removed in the meantime. */
  async #listed(name: string): Promise<ListedImage | null> {
    try {
      const stored = await this.#headers.load(name);
      return stored === null ? null : infoOf(name, stored);
    } catch (error) {
      if (error instanceof StoreError && (error.code === 'E_FORMAT' || error.code === 'E_CHECKSUM'))
        return { name, problem: error.message };
      throw error;
    }
  }
}

function infoOf(name: string, { header, kind }: StoredHeader): ImageInfo {
  const { id, size, objectBytes, state, metadata } = header;
  return { name, id, size, objectBytes, state, kind, metadata };
}

function refuseRemoving(name: string, { header }: StoredHeader): void {
  if (header.state === 'removing')
    throw new StoreError(
      'E_NOT_FOUND',
      `Image '${name}' is half removed; run store-image rm ${name} to finish that`,
    );
}

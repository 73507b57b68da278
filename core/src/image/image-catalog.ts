/**
 * The images of a pool. Whatever moment the process dies, an image is there whole, or it is not there, or its
 * header says what was going on and the next call finishes it:
 *
 * - `create` is one compare-and-swap;
 * - `remove` marks the header *removing*, removes the data, then the header; until then nobody can open it;
 * - shrinking marks the header *shrinking* with the new size, removes what lies behind it, then marks it *ready*;
 *   growing again before that finishes it first, so that the new end always reads as zeros.
 *
 * Where the pool keeps guards (`GuardingPool`), whoever opens an image for writing can take the writer role. Who removes an
 * image, or shrinks it, takes the role away first, from nobody or by force: whoever still has it open writes nothing any more,
 * also not behind the new end. What is changed here of the data of an image is changed with the claim of who does it, so
 * a change that was stopped half way and wakes up after the role was taken is refused. Growing disturbs nobody. Elsewhere
 * an image must not be open for writing while it is resized or removed; the owner of the folder sees to it.
 */
import type { Random } from '../env/env.js';
import { isGuarding, type GuardingPool } from '../pool/guarded-pool.js';
import { OBJECT_KIND, type ObjectPool } from '../pool/object-pool.js';
import { StoreError } from '../util/errors.js';
import { LIST_PAGE_MAX } from '../util/limits.js';
import { dataIndexes, removeDataFrom, type OnProgress, type Removal } from './data-remover.js';
import { HeaderStore, noSuchImage, type StoredHeader } from './header-store.js';
import { checkImageSize, IMAGE_FORMAT, type ImageHeader, type ImageState } from './image-header.js';
import { checkImageName } from './image-name.js';
import { Image, stripesOf } from './image.js';
import { servedError, takenError, type ImageWriter } from './image-writer.js';
import { WriterRoles, type RoleRequest } from './writer-roles.js';

/** What there is to know about an image without reading its data. */
export interface ImageInfo {
  readonly name: string;
  readonly id: string;
  /** Their ids, the one that is written to first: what the keys of data objects begin with. */
  readonly layers: readonly string[];
  readonly size: number;
  readonly objectBytes: number;
  readonly state: ImageState;
  /** `ancestor`: an 8-byte header; see `upgrade`. */
  readonly kind: 'store' | 'ancestor';
  readonly metadata: Readonly<Record<string, string>>;
  /** Who writes to it, or did last; null: nobody ever was registered for that. */
  readonly writer: ImageWriter | null;
}

/** An entry of `list`: an image, or why its header cannot be read. */
export type ListedImage = ImageInfo | { readonly name: string; readonly problem: string };

/** How to open an image. */
export interface OpenOptions {
  readonly readOnly: boolean;
  /** Take the writer role, where there is one. Not for reading only. */
  readonly role?: RoleRequest;
}

/** How to shrink or remove an image. */
export interface ChangeOptions {
  readonly onProgress?: OnProgress;
  /** Also if somebody writes to it, who cannot any more then. */
  readonly force?: boolean;
}

const nothing: OnProgress = () => undefined;
/** Before the first one. */
const NO_WRITER = { token: 0, layer: 0, since: 0 };
const ignore = (): void => undefined;
/** Takers of the role that may come in between, within reason. */
const ATTEMPTS_MAX = 20;

export class ImageCatalog {
  readonly #pool: ObjectPool;
  readonly #headers: HeaderStore;
  /** Null: the pool keeps no guards. */
  readonly #roles: WriterRoles | null;

  /** @param random - Source of identities and request tokens */
  constructor(pool: ObjectPool, random: Random) {
    this.#pool = pool;
    this.#headers = new HeaderStore(pool, random);
    this.#roles = isGuarding(pool) ? new WriterRoles(pool, this.#headers) : null;
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
   * @throws StoreError `E_NOT_FOUND`, also if it is being removed; `E_FORMAT`; `E_IN_USE` if another one has the role
   */
  async open(name: string, { readOnly, role }: OpenOptions): Promise<Image> {
    let stored = await this.#existing(name);
    refuseRemoving(name, stored);
    const takes = !readOnly && role !== undefined && this.#roles !== null;
    if (takes) stored = await this.#roles.take(name, role);
    const taken = stored.header;
    if (!readOnly) {
      stored = await this.#finishShrink(name, stored, nothing);
      refuseRemoving(name, stored);
    }
    const { header } = stored;
    const { writer } = header;
    // What was left half done may have taken its time, and somebody else the role; or it is another image by now.
    if (takes && !isSameWriter(header, taken))
      throw writer === null ? noSuchImage(name, this.#pool.name) : takenError(name, writer);
    if (!takes || writer === null || !isGuarding(this.#pool))
      return new Image(this.#pool.forUser(), name, header, { readOnly });
    const claimed = claimedPool(this.#pool, header, writer, role.fenced);
    return new Image(claimed, name, header, { readOnly, token: writer.token });
  }

  /** Gives the writer role back, if it is still that of `token`. @param now - Seconds since 1970 */
  async release(name: string, token: number, now: number): Promise<void> {
    await this.#roles?.release(name, token, now);
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
   * Changes the size, durably. What lies behind a smaller end is gone; growing adds zeros, which whoever has the image open
   * sees when it is opened again.
   * @throws StoreError `E_NOT_FOUND`; `E_INVALID` for a bad size, or for an image of the ancestor's kind; `E_IN_USE` if it
   *   gets smaller and somebody writes to it
   */
  async resize(name: string, size: number, options: ChangeOptions = {}): Promise<ImageInfo> {
    const { onProgress = nothing, force = false } = options;
    checkImageSize(size);
    const before = await this.#existing(name);
    refuseRemoving(name, before);
    if (before.kind === 'ancestor')
      throw new StoreError(
        'E_INVALID',
        `Image '${name}' has an 8-byte header; run store-image upgrade first`,
      );
    const half = await this.#takeShrink(name, before, force);
    if (half !== null) await this.#finishOwn(name, half, onProgress);
    const changed = await this.#headers.change(name, (stored) => {
      refuseRemoving(name, stored);
      if (stored.header.state !== 'ready') throw resizedByOthers(name);
      if (stored.header.size === size) return null;
      if (size > stored.header.size) return { ...stored.header, size };
      const writer = this.#dismissed(name, stored.header, force);
      return { ...stored.header, size, state: 'shrinking', writer };
    });
    return infoOf(name, await this.#finishOwn(name, changed, onProgress));
  }

  /**
   * Removes an image and its data, durably. Run again after an interruption, it does the rest.
   * @throws StoreError `E_NOT_FOUND`, `E_FORMAT`; `E_IN_USE` if somebody writes to it
   */
  async remove(name: string, options: ChangeOptions = {}): Promise<void> {
    const { onProgress = nothing, force = false } = options;
    checkImageName(name);
    const removing = await this.#headers.change(name, (stored) => {
      const { header } = stored;
      stripesOf(name, header);
      return header.state === 'removing'
        ? null
        : { ...header, state: 'removing', writer: this.#dismissed(name, header, force) };
    });
    const alone = (await this.#roles?.dismissAll(name, removing)) ?? removing;
    const { header } = alone;
    const { writer } = header;
    const guarding = writer !== null && isGuarding(this.#pool) ? this.#pool : null;
    const isOurs = await removeDataFrom(this.#pool, this.#removal(name, alone, 0), onProgress);
    // Also where somebody else was faster: ours were raised after his were removed, maybe.
    if (guarding !== null && writer !== null) await guarding.removeGuard(header.id, writer.token);
    if (isOurs) await this.#headers.delete(name, alone);
  }

  /** Gives an image of the ancestor's kind a real header; its data stay where they are. Others are left alone. */
  async upgrade(name: string): Promise<ImageInfo> {
    checkImageName(name);
    const upgraded = await this.#headers.change(name, (stored) =>
      stored.kind === 'ancestor' ? stored.header : null,
    );
    return infoOf(name, upgraded);
  }

  /** A shrink that somebody has left half done is ours from now on. @returns Null: it is done */
  async #takeShrink(
    name: string,
    { header: before }: StoredHeader,
    force: boolean,
  ): Promise<StoredHeader | null> {
    if (before.state !== 'shrinking') return null;
    const taken = await this.#headers.change(name, (stored) => {
      refuseRemoving(name, stored);
      const { header } = stored;
      if (header.state !== 'shrinking' || this.#roles === null) return null;
      return { ...header, writer: this.#dismissed(name, header, force) };
    });
    return taken.header.state === 'shrinking' ? taken : null;
  }

  /** Finishes a shrink that is ours, whoever else does. @throws StoreError `E_IN_USE` if it goes on without us */
  async #finishOwn(name: string, own: StoredHeader, onProgress: OnProgress): Promise<StoredHeader> {
    const stored = await this.#finishShrink(name, own, onProgress);
    refuseRemoving(name, stored);
    if (stored.header.id !== own.header.id) throw noSuchImage(name, this.#pool.name);
    if (stored.header.state === 'shrinking') throw resizedByOthers(name);
    return stored;
  }

  /**
   * Finishes a shrink for the writer that `found` has, and for nobody else: with the claim of another one, who writes to the
   * image, whatever is done late would be done to what he has written.
   * @returns The header, *shrinking* only if it is another's by now
   */
  async #finishShrink(
    name: string,
    found: StoredHeader,
    onProgress: OnProgress,
  ): Promise<StoredHeader> {
    let stored = found;
    for (let attempt = 1; stored.header.state === 'shrinking'; attempt += 1) {
      if (this.#roles !== null) stored = await this.#roles.settle(name, stored);
      if (!isSameWriter(stored.header, found.header)) return stored;
      const { header, version } = stored;
      try {
        const removal = this.#removal(name, stored, header.size);
        await removeDataFrom(this.#changing(header), removal, onProgress);
        stored = await this.#headers.change(name, (now) =>
          now.version === version ? { ...now.header, state: 'ready' } : null,
        );
      } catch (error) {
        // Somebody has taken the role meanwhile, and found the same to be done.
        if (!(error instanceof StoreError) || error.code !== 'E_FENCED') throw error;
        stored = await this.#existing(name);
        if (stored.version === version) throw error;
      }
      if (attempt === ATTEMPTS_MAX)
        throw new StoreError('E_IN_USE', `Image '${name}' is changed by others all the time`);
    }
    return stored;
  }

  /** Nobody writes to it any more. @throws StoreError `E_IN_USE` if somebody does, and is not to be forced */
  #dismissed(name: string, { writer }: ImageHeader, force: boolean): ImageWriter | null {
    if (this.#roles === null) return writer;
    if (writer !== null && writer.owner !== null && !force) throw servedError(name, writer);
    const { token, layer, since } = writer ?? NO_WRITER;
    return { token: token + 1, layer, owner: null, since, state: 'pending' };
  }

  /** The pool, for changes on behalf of whoever is the writer. */
  #changing(header: ImageHeader): ObjectPool {
    const { writer } = header;
    if (writer === null || !isGuarding(this.#pool)) return this.#pool;
    return claimedPool(this.#pool, header, writer, ignore);
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

/** Of the same image. */
function isSameWriter(a: ImageHeader, b: ImageHeader): boolean {
  return a.id === b.id && a.writer?.token === b.writer?.token;
}

function resizedByOthers(name: string): StoreError {
  return new StoreError('E_IN_USE', `Image '${name}' is being resized by somebody else; try again`);
}

function claimedPool(
  pool: GuardingPool,
  { id, layers }: ImageHeader,
  { token, layer }: ImageWriter,
  fenced: (why: StoreError) => void,
): ObjectPool {
  return pool.claimed(layers, { image: id, token, layer }, fenced);
}

function infoOf(name: string, { header, kind }: StoredHeader): ImageInfo {
  const { id, size, objectBytes, state, metadata, writer } = header;
  const layers = header.layers.map((layer) => layer.id);
  return { name, id, layers, size, objectBytes, state, kind, metadata, writer };
}

function refuseRemoving(name: string, { header }: StoredHeader): void {
  if (header.state === 'removing')
    throw new StoreError(
      'E_NOT_FOUND',
      `Image '${name}' is half removed; run store-image rm ${name} to finish that`,
    );
}

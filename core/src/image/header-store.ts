/**
 * Reads and changes image headers. Every change is one compare-and-swap that carries a fresh request token; when
 * the answer says that somebody was faster, or none came, the header is read again: if it carries our token,
 * the change was ours and had succeeded.
 */
import type { Random } from '../env/env.js';
import { OBJECT_KIND, ObjectRef, type ObjectPool } from '../pool/object-pool.js';
import { promised, StoreError, type ErrorCode } from '../util/errors.js';
import { INLINE_BYTES_MAX } from '../util/limits.js';
import {
  ANCESTOR_HEADER_BYTES,
  decodeAncestorHeader,
  decodeImageHeader,
  encodeImageHeader,
  type ImageHeader,
} from './image-header.js';

const ID_BYTES = 16;
/** Everybody who loses a race retries; losing this often in a row means that something else is wrong. */
const ATTEMPTS_MAX = 20;

/** Answers to a compare-and-swap that may have been made: by a copy sent earlier, or with its answer lost. */
const MAY_HAVE_CHANGED: ReadonlySet<ErrorCode> = new Set(['E_VERSION', 'E_TIMEOUT', 'E_IN_DOUBT']);

/** After these the header is looked at again. What is in doubt is never made any more once somebody has answered a look. */
const DECIDES_ANEW: ReadonlySet<ErrorCode> = new Set(['E_VERSION', 'E_IN_DOUBT']);

/** A header as it is stored now. */
export interface StoredHeader {
  readonly header: ImageHeader;
  readonly version: number;
  /** `ancestor`: only 8 bytes are stored. */
  readonly kind: 'store' | 'ancestor';
}

/** What a caller of `change` wants: all but the token. */
export type HeaderDraft = Omit<ImageHeader, 'request'>;

export class HeaderStore {
  readonly #pool: ObjectPool;
  readonly #random: Random;

  constructor(pool: ObjectPool, random: Random) {
    this.#pool = pool;
    this.#random = random;
  }

  /** A new identity, never seen before. */
  newId(): string {
    return this.#random.bytes(ID_BYTES).toString('hex');
  }

  /**
   * @returns Null if nothing has that name.
   * @throws StoreError `E_FORMAT` if it is no image, or one we do not understand
   */
  async load(name: string): Promise<StoredHeader | null> {
    const ref = headerRef(name);
    // The version must belong to the bytes: if it changed while they were read, they are read again.
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt += 1) {
      const stat = await this.#pool.stat(ref);
      if (stat === null) return null;
      const isAncestor = stat.kind === OBJECT_KIND.plain && stat.length === ANCESTOR_HEADER_BYTES;
      if (stat.kind !== OBJECT_KIND.imageHeader && !isAncestor)
        throw new StoreError('E_FORMAT', `'${name}' is an object, not an image`);
      if (stat.length > INLINE_BYTES_MAX)
        throw new StoreError('E_FORMAT', `The header of image '${name}' has ${stat.length} bytes`);
      const bytes = Buffer.alloc(stat.length);
      try {
        await promised((done) => {
          this.#pool.read(ref, 0, bytes, done);
        });
      } catch (error) {
        if (error instanceof StoreError && error.code === 'E_NOT_FOUND') continue; // deleted in between
        throw error;
      }
      if ((await this.#pool.stat(ref))?.version !== stat.version) continue;
      const decode = isAncestor ? decodeAncestorHeader : decodeImageHeader;
      return {
        header: decode(name, bytes),
        version: stat.version,
        kind: isAncestor ? 'ancestor' : 'store',
      };
    }
    throw new StoreError(
      'E_VERSION',
      `The header of image '${name}' changes all the time; try again`,
    );
  }

  /**
   * Replaces the header that has `version` (0: there is none yet), durably.
   * @returns What is stored now.
   * @throws StoreError `E_VERSION` if somebody else changed it first
   */
  async swap(name: string, version: number, draft: HeaderDraft): Promise<StoredHeader> {
    const header: ImageHeader = { ...draft, request: this.newId() };
    const bytes = encodeImageHeader(header);
    try {
      const swapped = await this.#pool.compareAndSwap(headerRef(name), version, bytes);
      return { header, version: swapped, kind: 'store' };
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      if (!MAY_HAVE_CHANGED.has(error.code)) throw error;
      const now = await this.load(name).catch((failure: unknown) => {
        if (failure instanceof StoreError) throw error; // whether it was ours stays unknown
        throw failure;
      });
      if (now?.header.request === header.request) return now;
      throw error;
    }
  }

  /**
   * Changes the header of an image, whoever else does at the same time.
   * @param change - Decides on the header as it is now; null leaves it. Called again after a lost race, and when nobody can say
   *   any more whether the change was made, but the header does not have it.
   * @throws StoreError `E_NOT_FOUND`, or what `change` throws
   */
  async change(
    name: string,
    change: (stored: StoredHeader) => HeaderDraft | null,
  ): Promise<StoredHeader> {
    for (let attempt = 1; ; attempt += 1) {
      const stored = await this.load(name);
      if (stored === null) throw noSuchImage(name, this.#pool.name);
      const draft = change(stored);
      if (draft === null) return stored;
      try {
        return await this.swap(name, stored.version, draft);
      } catch (error) {
        const isOpen = error instanceof StoreError && DECIDES_ANEW.has(error.code);
        if (!isOpen || attempt === ATTEMPTS_MAX) throw error;
      }
    }
  }

  /** Nobody has changed the header since it was loaded: versions never come back. */
  async isCurrent(name: string, { version }: StoredHeader): Promise<boolean> {
    return (await this.#pool.stat(headerRef(name)))?.version === version;
  }

  /** Deletes the header if it still is the one that was loaded; that of a new image of the name stays. */
  async delete(name: string, { version }: StoredHeader): Promise<void> {
    await this.#pool.delete(headerRef(name), version);
  }
}

export function noSuchImage(name: string, pool: string): StoreError {
  return new StoreError('E_NOT_FOUND', `There is no image '${name}' in pool '${pool}'`);
}

function headerRef(name: string): ObjectRef {
  return new ObjectRef(OBJECT_KIND.imageHeader, name);
}

/**
 * Who may write to an image of a cluster. The role is taken in three steps: the header says that it is *pending* and names
 * the new writer, with a token greater than all before; the guard of every group is raised to that token; the header says
 * *ready*. Before that the new writer writes nothing, and after it nothing that the old one sends is made any more: the
 * guards keep it out, not time.
 *
 * Whoever dies in between leaves *pending* behind. The next one who needs the role takes it with a token of its own, which
 * raises all guards; who only needs to change the image for a moment (`settle`) raises those that were left.
 */
import type { Guard } from '../pool/guard.js';
import type { GuardingPool } from '../pool/guarded-pool.js';
import { StoreError, type ErrorCode } from '../util/errors.js';
import { noSuchImage, type HeaderStore, type StoredHeader } from './header-store.js';
import type { ImageHeader } from './image-header.js';
import { isSameOwner, takenError, type ImageOwner, type ImageWriter } from './image-writer.js';

/** Changes of the header that come in between are no reason to give up, within reason. */
const ATTEMPTS_MAX = 20;

/** A raise that ends so was made in some groups, maybe, and is not made any more in the others. */
const REFUSED_SOMEWHERE: ReadonlySet<ErrorCode> = new Set(['E_FENCED', 'E_NO_SPACE']);

export interface RoleRequest {
  readonly owner: ImageOwner;
  /** Seconds since 1970. */
  readonly now: number;
  /** Take it from somebody else. */
  readonly force: boolean;
  /** The token that the owner believes to have; 0: none. While it is that of the writer nothing is done. */
  readonly held: number;
  /** It was taken from the owner since it runs: it is not taken back from whoever has it, unless he gave it back. */
  readonly wasLost: boolean;
  /** Told once that the role is lost. */
  readonly fenced: (why: StoreError) => void;
}

export class WriterRoles {
  readonly #pool: GuardingPool;
  readonly #headers: HeaderStore;

  constructor(pool: GuardingPool, headers: HeaderStore) {
    this.#pool = pool;
    this.#headers = headers;
  }

  /**
   * Takes the role. An image of the ancestor's kind has no room for a writer, and is left as it is.
   * @returns The header, with the writer in it; or without, of an ancestor's image
   * @throws StoreError `E_IN_USE` if somebody else has it, or was faster; `E_NOT_FOUND`
   */
  async take(name: string, request: RoleRequest): Promise<StoredHeader> {
    let seen: number | null = null;
    const pending = await this.#headers.change(name, (stored) => {
      const { header } = stored;
      if (header.state === 'removing') throw noSuchImage(name, this.#pool.name);
      if (stored.kind === 'ancestor') return null;
      const { writer } = header;
      const before = writer?.token ?? 0;
      // What was allowed was to take it from the one that was seen.
      if (writer !== null && seen !== null && before !== seen) throw takenError(name, writer);
      seen = before;
      if (writer !== null && isStillHeld(writer, request)) return null;
      if (writer !== null && !mayTake(writer, request)) throw takenError(name, writer);
      const { owner, now: since } = request;
      const layer = writer?.layer ?? 0;
      return { ...header, writer: { token: before + 1, layer, owner, since, state: 'pending' } };
    });
    const { writer } = pending.header;
    if (writer === null || isStillHeld(writer, request)) return pending;
    const ready = await this.settle(name, pending);
    const now = ready.header.writer;
    if (now !== null && now.token !== writer.token) throw takenError(name, now);
    return ready;
  }

  /**
   * Finishes what somebody has begun who took the role.
   * @returns The header, in which no writer is *pending*
   */
  async settle(name: string, found: StoredHeader): Promise<StoredHeader> {
    let stored = found;
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt += 1) {
      const { writer, state } = stored.header;
      if (writer?.state !== 'pending') return stored;
      // Whoever removes it has the role, and finishes that himself.
      if (state === 'removing') throw noSuchImage(name, this.#pool.name);
      try {
        await this.#pool.raiseGuard(guardOf(stored.header, writer));
      } catch (error) {
        if (!(error instanceof StoreError) || !REFUSED_SOMEWHERE.has(error.code)) throw error;
        const now = await this.#headers.load(name);
        if (now === null || isGoing(now.header, stored.header.id)) {
          await this.#withdraw(stored.header.id, writer.token);
          throw noSuchImage(name, this.#pool.name);
        }
        // Somebody has taken it meanwhile, and the header says so.
        const isTaken = error.code === 'E_FENCED' && now.header.writer?.token !== writer.token;
        if (!isTaken) throw error;
        stored = now;
        continue;
      }
      stored = await this.#becomeReady(name, stored.header, writer);
    }
    throw new StoreError('E_IN_USE', `The writer of image '${name}' changes all the time`);
  }

  async #becomeReady(
    name: string,
    { id }: ImageHeader,
    { token }: ImageWriter,
  ): Promise<StoredHeader> {
    const seen = { isGone: false };
    try {
      const stored = await this.#headers.change(name, ({ header }) => {
        const { writer } = header;
        seen.isGone = isGoing(header, id);
        const isOurs = !seen.isGone && writer?.token === token && writer.state === 'pending';
        return isOurs ? { ...header, writer: { ...writer, state: 'ready' } } : null;
      });
      if (!seen.isGone) return stored;
      throw noSuchImage(name, this.#pool.name);
    } catch (error) {
      // An answer that does not come says nothing of the image.
      const isMissing = error instanceof StoreError && error.code === 'E_NOT_FOUND';
      if (seen.isGone || (isMissing && (await this.#headers.load(name)) === null))
        await this.#withdraw(id, token);
      throw error;
    }
  }

  /** The image is removed: its guards are gone already, maybe, and what was raised after that is nobody's. */
  async #withdraw(id: string, token: number): Promise<void> {
    try {
      await this.#pool.removeGuard(id, token);
    } catch (error) {
      // Whoever removes it has raised them higher, and removes them.
      if (!(error instanceof StoreError) || error.code !== 'E_FENCED') throw error;
    }
  }

  /**
   * Raises the guards for whoever removes an image, so that nobody writes to it any more.
   * @param removing - The header, in which it is *removing*
   * @returns The header, with a greater token if some group had a guard that was higher
   */
  async dismissAll(name: string, removing: StoredHeader): Promise<StoredHeader> {
    let stored = removing;
    for (let attempt = 1; ; attempt += 1) {
      const { header } = stored;
      const { writer, id } = header;
      if (writer === null) return stored;
      try {
        await this.#pool.raiseGuard(guardOf(header, writer));
        return stored;
      } catch (error) {
        const isHigher = error instanceof StoreError && error.code === 'E_FENCED';
        if (!isHigher || attempt === ATTEMPTS_MAX) throw error;
      }
      const now = await this.#headers.load(name);
      if (now?.header.id !== id) {
        await this.#withdraw(id, writer.token);
        throw noSuchImage(name, this.#pool.name);
      }
      stored = await this.#headers.change(name, ({ header: present }) =>
        present.id === id && present.writer?.token === writer.token
          ? { ...present, writer: { ...writer, token: 2 * writer.token } }
          : null,
      );
    }
  }

  /** Gives the role back, if it is still that of this token. @param now - Seconds since 1970 */
  async release(name: string, token: number, now: number): Promise<void> {
    await this.#headers.change(name, ({ header }) =>
      header.writer?.token === token && header.writer.owner !== null
        ? { ...header, writer: { ...header.writer, owner: null, since: now } }
        : null,
    );
  }
}

/** What the guards of an image say while `writer` has it. */
export function guardOf({ id, layers }: ImageHeader, { token, layer }: ImageWriter): Guard {
  return { image: id, token, layer, layerId: layers[0].id };
}

/** It is removed, or being removed, and what is there by the name now is another image. */
function isGoing({ id, state }: ImageHeader, wanted: string): boolean {
  return id !== wanted || state === 'removing';
}

function isStillHeld({ token, owner, state }: ImageWriter, request: RoleRequest): boolean {
  return (
    !request.wasLost &&
    token === request.held &&
    state === 'ready' &&
    owner !== null &&
    isSameOwner(owner, request.owner)
  );
}

function mayTake({ owner, token }: ImageWriter, request: RoleRequest): boolean {
  if (owner === null) return true;
  const isOwn = isSameOwner(owner, request.owner);
  // By the header it is still his: a group has lost its guard with all else that it had.
  if (request.wasLost) return isOwn && token === request.held;
  return isOwn || request.force;
}

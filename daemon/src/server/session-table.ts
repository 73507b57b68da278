/** All sessions of a daemon, by the id that the client made. Those without a connection are kept for a while. */
import { StoreError, type Clock } from '@store/core';
import { Session, type SessionHolder } from './session.js';

/** A client that was away for longer begins anew. */
export const SESSION_KEEP_MS: number = 15 * 60 * 1000;
const SESSIONS_MAX = 16_384;

export class SessionTable {
  readonly #clock: Clock;
  /** By id, one character a byte; the one that was begun or resumed last is at the end. */
  readonly #sessions = new Map<string, Session>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get count(): number {
    return this.#sessions.size;
  }

  /** Those that a connection is in charge of. */
  get heldCount(): number {
    let count = 0;
    for (const { holder } of this.#sessions.values()) if (holder !== null) count += 1;
    return count;
  }

  /**
   * Puts `holder` in charge of the session, which is made if it is not known. Resolves when nothing of the connection
   * before it is under way any more.
   * @throws StoreError `E_DENIED`, `E_BUSY`
   */
  async take(
    id: Buffer,
    incarnation: number,
    principal: string,
    holder: SessionHolder,
  ): Promise<{ session: Session; resumed: boolean }> {
    const name = id.toString('latin1');
    const known = this.#sessions.get(name);
    if (known === undefined) {
      this.#makeRoom();
      const session = new Session(principal, incarnation);
      session.holder = holder;
      this.#sessions.set(name, session);
      return { session, resumed: false };
    }
    known.takeOver(principal, incarnation);
    known.holder = holder;
    this.#sessions.delete(name);
    this.#sessions.set(name, known);
    await known.whenQuiet();
    if (known.holder !== holder)
      throw new StoreError('E_DENIED', 'A newer connection is in charge of this session');
    return { session: known, resumed: true };
  }

  /** The connection is gone. */
  leave(session: Session, holder: SessionHolder): void {
    if (session.holder !== holder) return;
    session.holder = null;
    session.idleSince = this.#clock.now();
  }

  #makeRoom(): void {
    const now = this.#clock.now();
    for (const [name, session] of this.#sessions) {
      if (session.holder !== null || session.runningCount > 0) continue;
      const isOld = now - session.idleSince > SESSION_KEEP_MS;
      if (!isOld && this.#sessions.size < SESSIONS_MAX) break;
      this.#sessions.delete(name);
    }
    if (this.#sessions.size >= SESSIONS_MAX)
      throw new StoreError('E_BUSY', `There are ${SESSIONS_MAX} clients already; try again later`);
  }
}

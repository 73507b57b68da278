/** All sessions of a daemon, by the id that the client made. Those without a connection are kept for a while. */
import { StoreError, type Clock } from '@store/core';
import { Session, type KeptAnswers, type SessionHolder } from './session.js';

/** A client that was away for longer begins anew. */
export const SESSION_KEEP_MS: number = 15 * 60 * 1000;
const SESSIONS_MAX = 16_384;
/** Answers that all sessions keep together; some 200 bytes each. Whoever asks properly keeps a few. */
const KEPT_MAX = 262_144;
/** Who keeps more than this, when there are too many, has not told for long what it has: its floor stands still. */
const KEPT_PROPERLY_MAX = 1024;

export class SessionTable {
  readonly #clock: Clock;
  /** By id, one character a byte; the one that was begun or resumed last is at the end. */
  readonly #sessions = new Map<string, Session>();
  readonly #kept: KeptAnswers = { count: 0, added: (session) => this.#limitKept(session) };

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
      const session = new Session(principal, incarnation, this.#kept);
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

  /**
   * Forgets the oldest sessions whose clients are away while all keep too much; if that does not help, the connection ends
   * of a client that keeps much.
   */
  #limitKept(session: Session): void {
    if (this.#kept.count <= KEPT_MAX) return;
    for (const [name, other] of this.#sessions) {
      if (other.holder !== null || other.runningCount > 0) continue;
      this.#forget(name, other);
      if (this.#kept.count <= KEPT_MAX) return;
    }
    if (session.keptCount <= KEPT_PROPERLY_MAX) return;
    const { holder } = session;
    session.holder = null;
    session.idleSince = this.#clock.now();
    holder?.superseded('the client keeps more answers than there is room for');
  }

  #forget(name: string, session: Session): void {
    session.end();
    this.#sessions.delete(name);
  }

  #makeRoom(): void {
    const now = this.#clock.now();
    for (const [name, session] of this.#sessions) {
      if (session.holder !== null || session.runningCount > 0) continue;
      const isOld = now - session.idleSince > SESSION_KEEP_MS;
      if (!isOld && this.#sessions.size < SESSIONS_MAX) break;
      this.#forget(name, session);
    }
    if (this.#sessions.size >= SESSIONS_MAX)
      throw new StoreError('E_BUSY', `There are ${SESSIONS_MAX} clients already; try again later`);
  }
}

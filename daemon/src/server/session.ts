/**
 * A client's session outlives its connections: it remembers which requests were run, so that one that is sent again
 * after a broken connection, or comes twice as a datagram, is not run again. One connection at a time is in charge.
 *
 * - A request id is run at most once. Its answer is kept until the client has it (its *floor* has passed the id).
 * - What lies below the floor is dropped: the client has given it up, and has perhaps written something newer.
 * - A connection that takes over waits until what the one before it began has come to its end (`whenQuiet`), so nothing
 *   of a dead connection takes effect after the first request of its successor.
 *
 * A session ends with the daemon's process. What it keeps is bounded: by the span of ids that may be under way, and all
 * sessions together by their table (`KeptAnswers`).
 */
import { REQUEST_SPAN_MAX, StoreError } from '@store/core';
import { cutText } from './answer-port.js';

/** The answer to a request, to be given again. */
export interface KeptAnswer {
  readonly status: number;
  readonly body: Buffer;
}

/** What to do with a request: run it, nothing (it runs, or nobody waits for it), or give the answer again. */
export type Admission = 'run' | 'drop' | KeptAnswer;

/** Of a kept answer: a version or a short text. A client that asks again for a failure hears its beginning. */
const KEPT_BODY_BYTES_MAX = 128;

/** What all sessions keep together. */
export interface KeptAnswers {
  /** Answers that are kept, and requests that run. */
  count: number;
  /** This session has one more: there may be too many now. */
  added(session: Session): void;
}

const RUNNING: KeptAnswer = { status: 0, body: Buffer.alloc(0) };

/** Whoever is in charge of a session. */
export interface SessionHolder {
  /** It is not in charge any more: another connection of the client has taken over, or `why` else. */
  superseded(why: string): void;
}

export class Session {
  /** Who it belongs to; nobody else can take it over. */
  readonly principal: string;
  /** When it lost its connection, by the clock of the table. */
  idleSince = 0;
  holder: SessionHolder | null = null;
  readonly #kept: KeptAnswers;
  #incarnation: number;
  #floor = 0;
  readonly #answers = new Map<number, KeptAnswer>();
  #running = 0;
  #whenQuiet: (() => void)[] = [];

  constructor(principal: string, incarnation: number, kept: KeptAnswers) {
    this.principal = principal;
    this.#kept = kept;
    this.#incarnation = incarnation;
  }

  get runningCount(): number {
    return this.#running;
  }

  /** Answers that are kept, and requests that run. */
  get keptCount(): number {
    return this.#answers.size;
  }

  /** It is forgotten: when its client comes again it begins anew. */
  end(): void {
    this.#kept.count -= this.#answers.size;
    this.#answers.clear();
  }

  /** @throws StoreError `E_DENIED` for whom it does not belong to, or a connection older than the one in charge */
  takeOver(principal: string, incarnation: number): void {
    if (principal !== this.principal)
      throw new StoreError('E_DENIED', 'This session belongs to another client');
    if (incarnation <= this.#incarnation)
      throw new StoreError('E_DENIED', 'A newer connection is in charge of this session');
    this.#incarnation = incarnation;
    const { holder } = this;
    this.holder = null;
    holder?.superseded('the client has connected anew');
  }

  /** Resolves when nothing runs. */
  whenQuiet(): Promise<void> {
    if (this.#running === 0) return Promise.resolve();
    return new Promise((resolve) => this.#whenQuiet.push(resolve));
  }

  /**
   * A request that is run once has arrived.
   * @throws StoreError `E_BAD_FRAME` if its id is further from the floor than may be under way
   */
  admit(requestId: number, floor: number): Admission {
    this.#raiseFloor(floor);
    if (requestId < this.#floor) return 'drop';
    if (requestId >= this.#floor + REQUEST_SPAN_MAX)
      throw new StoreError('E_BAD_FRAME', 'More requests are under way than may be');
    const known = this.#answers.get(requestId);
    if (known === RUNNING) return 'drop';
    if (known !== undefined) return known;
    this.#answers.set(requestId, RUNNING);
    this.#running += 1;
    this.#kept.count += 1;
    this.#kept.added(this);
    return 'run';
  }

  /** As `admit`, for requests that may be run again. @returns false if nobody waits for it any more */
  admitAgain(requestId: number, floor: number): boolean {
    this.#raiseFloor(floor);
    return requestId >= this.#floor;
  }

  /** A request that `admit` let run has come to its end. */
  finished(requestId: number, answer: KeptAnswer): void {
    if (requestId >= this.#floor) this.#answers.set(requestId, shortened(answer));
    else this.#remove(requestId);
    this.#running -= 1;
    if (this.#running > 0) return;
    for (const wake of this.#whenQuiet.splice(0)) wake();
  }

  #raiseFloor(floor: number): void {
    if (floor <= this.#floor) return;
    if (floor - this.#floor <= this.#answers.size)
      for (let id = this.#floor; id < floor; id += 1) this.#forget(id);
    else for (const id of this.#answers.keys()) if (id < floor) this.#forget(id);
    this.#floor = floor;
  }

  #forget(requestId: number): void {
    // One that runs is counted, and forgotten when it ends.
    if (this.#answers.get(requestId) !== RUNNING) this.#remove(requestId);
  }

  #remove(requestId: number): void {
    if (this.#answers.delete(requestId)) this.#kept.count -= 1;
  }
}

/** What is kept of an answer; a view would keep all of it. */
function shortened({ status, body }: KeptAnswer): KeptAnswer {
  if (body.length <= KEPT_BODY_BYTES_MAX) return { status, body };
  return { status, body: Buffer.from(cutText(body, KEPT_BODY_BYTES_MAX)) };
}

/** Questions to other daemons: asked again until they are answered, or given up. */
import type { StartOf } from './group-host.js';
import type { PeerMessage } from './peer-message.js';

const AGAIN_MS = 1000;
const TRIES_MAX = 10;

interface Question {
  readonly to: StartOf;
  readonly make: (id: number) => PeerMessage;
  readonly done: (answer: PeerMessage | null) => void;
  askedAt: number;
  tries: number;
}

export class PeerQuestions {
  readonly #send: (daemon: number, message: PeerMessage) => void;
  readonly #now: () => number;
  readonly #questions = new Map<number, Question>();
  readonly #nextId: () => number;

  /** @param nextId - Nothing else that is asked of another daemon has the same */
  constructor(
    send: (daemon: number, message: PeerMessage) => void,
    now: () => number,
    nextId: () => number,
  ) {
    this.#send = send;
    this.#now = now;
    this.#nextId = nextId;
  }

  /**
   * @param make - Called each time it is asked: the epoch may be another one by then.
   * @param done - Null: no answer came.
   */
  ask(
    to: StartOf,
    make: (id: number) => PeerMessage,
    done: (answer: PeerMessage | null) => void,
  ): void {
    const id = this.#nextId();
    this.#questions.set(id, { to, make, done, askedAt: this.#now(), tries: 1 });
    this.#send(to.daemon, make(id));
  }

  /** An answer has come. */
  answered(from: StartOf, message: PeerMessage & { readonly id: number }): void {
    const question = this.#questions.get(message.id);
    if (question?.to.daemon !== from.daemon || question.to.startId !== from.startId) return;
    this.#questions.delete(message.id);
    question.done(message);
  }

  /** To be called often. @param isUp - Whether there is a link to that start */
  tick(isUp: (to: StartOf) => boolean): void {
    const now = this.#now();
    for (const [id, question] of [...this.#questions]) {
      if (now - question.askedAt < AGAIN_MS) continue;
      if (question.tries === TRIES_MAX) {
        this.#questions.delete(id);
        question.done(null);
        continue;
      }
      question.tries += 1;
      question.askedAt = now;
      if (isUp(question.to)) this.#send(question.to.daemon, question.make(id));
    }
  }

  /** Nothing is asked or answered any more. */
  close(): void {
    const questions = [...this.#questions.values()];
    this.#questions.clear();
    for (const { done } of questions) done(null);
  }
}

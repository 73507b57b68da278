import type { TaggedWriter } from './tagged-writer.js';

/** The longest time without an answer to a busy client. */
export class StallMeter {
  longestMs = 0;
  readonly #writer: TaggedWriter;
  #answers = -1;
  #sinceMs = performance.now();
  readonly #timer: NodeJS.Timeout;

  constructor(writer: TaggedWriter) {
    this.#writer = writer;
    this.#timer = setInterval(() => this.#look(), 5);
  }

  stop(): void {
    this.#look();
    clearInterval(this.#timer);
  }

  #look(): void {
    const now = performance.now();
    this.longestMs = Math.max(this.longestMs, now - this.#sinceMs);
    if (this.#writer.answers === this.#answers) return;
    this.#answers = this.#writer.answers;
    this.#sinceMs = now;
  }
}

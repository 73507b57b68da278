/**
 * Counts how many links of a device have to be replaced. Two witnesses tell of a death: the kernel, when it has taken
 * note itself (LINK_DEAD), and our own descriptor of the socket, which sees the other side go. Only the kernel's word
 * counts at first: a new socket given before it has taken note would be ignored, without an error. If its word does
 * not come within a while it was lost, and ours counts.
 */

/** How long the kernel's word may be late. */
const WORD_MS = 2000;

export class LinkLedger {
  readonly #wanted: number;
  /** Links the kernel said it lost and nobody replaced yet. */
  #missing = 0;
  /** Deaths we saw and the kernel did not speak of yet, each with the time. */
  #unconfirmed: number[] = [];
  /** Deaths the kernel spoke of before we saw them. */
  #early = 0;

  /** @param wanted - How many links there should be. */
  constructor(wanted: number) {
    this.#wanted = wanted;
  }

  /** How many sockets the kernel is ready to take. */
  get missing(): number {
    return this.#missing;
  }

  /** Whether anything is wrong, or may be. */
  get troubled(): boolean {
    return this.#missing > 0 || this.#unconfirmed.length > 0;
  }

  /** The kernel said that `count` links died. */
  kernelSaid(count: number): void {
    this.#missing = Math.min(this.#wanted, this.#missing + count);
    const known = Math.min(count, this.#unconfirmed.length);
    this.#unconfirmed.splice(0, known);
    this.#early = Math.min(this.#wanted, this.#early + count - known);
  }

  /** Our descriptors of `count` links saw the other side go. */
  weSaw(count: number, nowMs: number): void {
    const known = Math.min(count, this.#early);
    this.#early -= known;
    for (let seen = known; seen < count; seen += 1) this.#unconfirmed.push(nowMs);
  }

  /** The kernel dropped words of its own: ours count at once. */
  wordsWereLost(): void {
    this.kernelSaid(this.#unconfirmed.length);
  }

  /** @returns How many deaths were believed because the kernel's word is overdue */
  tick(nowMs: number): number {
    const overdue = this.#unconfirmed.filter((seenMs) => nowMs - seenMs >= WORD_MS).length;
    if (overdue > 0) this.kernelSaid(overdue);
    return overdue;
  }

  /** A new socket was given to the kernel. */
  replaced(): void {
    this.#missing -= 1;
  }
}

import { invariant } from '../util/invariant.js';

/** Hands out the bytes of a list of parts, in order, as views. */
export class PartsCutter {
  readonly #parts: readonly Buffer[];
  #part = 0;
  #at = 0;

  constructor(parts: readonly Buffer[]) {
    this.#parts = parts;
  }

  next(bytes: number): Buffer[] {
    const cut: Buffer[] = [];
    let missing = bytes;
    while (missing > 0) {
      const part = this.#parts[this.#part];
      invariant(part !== undefined, 'the parts hold what was asked of them');
      const taken = Math.min(missing, part.length - this.#at);
      if (taken > 0) cut.push(part.subarray(this.#at, this.#at + taken));
      missing -= taken;
      this.#at += taken;
      if (this.#at === part.length) {
        this.#part += 1;
        this.#at = 0;
      }
    }
    return cut;
  }
}

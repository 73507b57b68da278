/** A small fast generator (sfc32, Chris Doty-Humphrey): the same seed gives the same run. */
export class SimRandom {
  #a: number;
  #b: number;
  #c: number;
  #counter = 1;

  constructor(seed: number, stream = 0) {
    this.#a = seed | 0;
    this.#b = stream | 0;
    this.#c = 0x5eed;
    for (let round = 0; round < 15; round += 1) this.uint32();
  }

  uint32(): number {
    const out = (this.#a + this.#b + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = ((this.#c << 21) | (this.#c >>> 11)) + out;
    return out >>> 0;
  }

  /** 0 <= n < `below`. */
  below(below: number): number {
    return Math.floor((this.uint32() / 2 ** 32) * below);
  }

  chance(probability: number): boolean {
    return this.uint32() / 2 ** 32 < probability;
  }

  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)] as T; // in bounds
  }

  bytes(count: number): Buffer {
    const out = Buffer.alloc(count);
    for (let at = 0; at < count; at += 1) out[at] = this.uint32() & 255;
    return out;
  }
}

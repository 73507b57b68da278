/** A small random generator (sfc32 by Chris Doty-Humphrey) that gives the same numbers for the same seed. */
export class SeededRandom {
  #a: number;
  #b: number;
  #c: number;
  #counter = 1;

  /** @param seed - Any 32-bit number. */
  constructor(seed: number) {
    this.#a = seed | 0;
    this.#b = seed ^ 0x9e3779b9;
    this.#c = ~seed;
    for (let round = 0; round < 15; round++) this.next32();
  }

  /** 0..2^32-1. */
  next32(): number {
    const sum = (this.#a + this.#b + this.#counter++) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = ((this.#c << 21) | (this.#c >>> 11)) + sum;
    return sum >>> 0;
  }

  /** 0..`count`-1. */
  below(count: number): number {
    return Math.floor((this.next32() / 2 ** 32) * count);
  }

  /** `low`..`high`, both included. */
  between(low: number, high: number): number {
    return low + this.below(high - low + 1);
  }

  /** True in `percent` of 100 cases. */
  chance(percent: number): boolean {
    return this.next32() / 2 ** 32 < percent / 100;
  }

  pick<T>(choices: readonly T[]): T {
    const choice = choices[this.below(choices.length)];
    if (choice === undefined) throw new Error('nothing to pick from');
    return choice;
  }
}

/** The seed of a test run: `STORE_SEED` of the environment, or a new one. */
export function testSeed(): number {
  const given = process.env['STORE_SEED'];
  if (given === undefined) return Math.floor(Math.random() * 2 ** 31);
  const seed = Number(given);
  if (!Number.isInteger(seed)) throw new Error(`STORE_SEED=${given} is not a whole number`);
  return seed;
}

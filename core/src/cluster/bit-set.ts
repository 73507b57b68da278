/** A set of numbers from 0 to a limit, as bits. */
export class BitSet {
  /** Number `n` is bit `n % 8` of byte `n / 8`. */
  readonly bytes: Buffer;

  /** @param limit - Larger than any number in it */
  constructor(limit: number) {
    this.bytes = Buffer.alloc(Math.ceil(limit / 8));
  }

  has(number: number): boolean {
    return (((this.bytes[number >> 3] ?? 0) >> (number & 7)) & 1) === 1;
  }

  add(number: number): void {
    this.bytes[number >> 3] = (this.bytes[number >> 3] ?? 0) | (1 << (number & 7));
  }

  /** How many are in it. It counts them. */
  get size(): number {
    return this.all().length;
  }

  /** In ascending order. */
  all(): number[] {
    const all: number[] = [];
    for (let number = 0; number < this.bytes.length * 8; number += 1)
      if (this.has(number)) all.push(number);
    return all;
  }
}

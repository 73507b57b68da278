/**
 * A map of bounded size that keeps what was asked for not long ago. Two generations: when the younger one is full the older
 * one is forgotten as a whole, so that forgetting costs nothing until then.
 */
export class RecentMap<Value> {
  readonly #countMax: number;
  readonly #bytesMax: number;
  #recent = new Map<number, Value>();
  #older = new Map<number, Value>();
  #bytes = 0;

  /** @param limits - Of a generation: entries, and bytes of all that they stand for. */
  constructor(limits: { readonly countMax: number; readonly bytesMax: number }) {
    this.#countMax = limits.countMax;
    this.#bytesMax = limits.bytesMax;
  }

  /** Small integers (32 bits, signed) as keys take no memory of their own. */
  get(key: number): Value | undefined {
    return this.#recent.get(key);
  }

  /** What `get` did not find; if it is used it has to be `set` again. */
  getOlder(key: number): Value | undefined {
    return this.#older.get(key);
  }

  /** @param bytes - What it takes, or stands for */
  set(key: number, value: Value, bytes: number): void {
    if (this.#recent.size >= this.#countMax || this.#bytes > this.#bytesMax) {
      this.#bytes = 0;
      this.#older = this.#recent;
      this.#recent = new Map();
    }
    this.#recent.set(key, value);
    this.#bytes += bytes;
  }
}

/**
 * What a bad network does to datagrams: loses, doubles, damages and delays them, and so brings them out of order. Which
 * ones is decided by a seeded generator, and counted, so that a test can say that it was really tried.
 */
import type { SeededRandom } from '../tagged-writer/seeded-random.js';

export interface DatagramFaults {
  readonly dropPercent?: number;
  readonly duplicatePercent?: number;
  /** How many of 100 have one bit flipped. */
  readonly flipPercent?: number;
  /** How many of 100 are held back for 1 to `delayMsMax` ms, while others overtake them. */
  readonly delayPercent?: number;
  readonly delayMsMax?: number;
}

export interface DatagramTally {
  passed: number;
  dropped: number;
  duplicated: number;
  flipped: number;
  delayed: number;
}

/** One that leaves, and after how many ms; 0: at once. */
export interface Departure {
  readonly datagram: Buffer;
  readonly afterMs: number;
}

export class DatagramTrouble {
  readonly tally: DatagramTally = { passed: 0, dropped: 0, duplicated: 0, flipped: 0, delayed: 0 };
  readonly #faults: Required<DatagramFaults>;
  readonly #random: SeededRandom;

  constructor(faults: DatagramFaults, random: SeededRandom) {
    this.#faults = {
      ...{ dropPercent: 0, duplicatePercent: 0, flipPercent: 0, delayPercent: 0, delayMsMax: 0 },
      ...faults,
    };
    this.#random = random;
  }

  /** Decides about one datagram, which is not changed. */
  befall(datagram: Buffer): Departure[] {
    const { dropPercent, duplicatePercent } = this.#faults;
    if (this.#random.chance(dropPercent)) {
      this.tally.dropped += 1;
      return [];
    }
    if (!this.#random.chance(duplicatePercent)) return [this.#depart(datagram)];
    this.tally.duplicated += 1;
    return [this.#depart(datagram), this.#depart(datagram)];
  }

  #depart(datagram: Buffer): Departure {
    const { delayPercent, delayMsMax, flipPercent } = this.#faults;
    this.tally.passed += 1;
    let sent = datagram;
    if (datagram.length > 0 && this.#random.chance(flipPercent)) {
      this.tally.flipped += 1;
      sent = Buffer.from(datagram);
      const at = this.#random.below(sent.length);
      sent.writeUInt8(sent.readUInt8(at) ^ (1 << this.#random.below(8)), at);
    }
    if (delayMsMax === 0 || !this.#random.chance(delayPercent))
      return { datagram: sent, afterMs: 0 };
    this.tally.delayed += 1;
    return { datagram: sent, afterMs: this.#random.between(1, delayMsMax) };
  }
}

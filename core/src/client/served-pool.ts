/** A pool as one daemon serves it: what all who use it through one session share. */
import type { StoreError } from '../util/errors.js';
import type { ClientPool } from './daemon-client.js';
import type { Losses } from './write-tally.js';

export class ServedPool implements ClientPool {
  readonly name: string;
  readonly objectBytes: number;
  handle: number;
  failure: StoreError | null = null;
  readonly losses: Losses = { count: 0 };
  /** Something was changed that was not durable when it was answered. */
  hasWritten = false;
  #lineage: Buffer | null = null;

  /** @param facts.handle - Of the present connection; 0 if there is none yet */
  constructor(facts: { name: string; objectBytes: number; handle: number }) {
    this.name = facts.name;
    this.objectBytes = facts.objectBytes;
    this.handle = facts.handle;
  }

  lineageIs(lineage: Buffer): void {
    if (this.#lineage !== null && !this.#lineage.equals(lineage)) this.losses.count += 1;
    this.#lineage = lineage;
  }
}

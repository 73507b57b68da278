/** One line on standard error for each measurement, with an estimate of what is left. */
import type { Row } from './rows.js';
import type { ServerKind } from './server-kinds.js';

export class Progress {
  readonly #startMs = performance.now();
  #total: number;
  #done = 0;
  #notesMs = 0;
  #noteMs: number | null = null;

  /** @param total - Measurements that are planned. */
  constructor(total: number) {
    this.#total = total;
  }

  /** Something that is no measurement begins. */
  note(text: string): void {
    this.#endNote();
    this.#noteMs = performance.now();
    process.stderr.write(`${text}\n`);
  }

  measured(round: number, row: Row, kind: ServerKind, value: number): void {
    this.#endNote();
    this.#done += 1;
    const place = `[${`${this.#done}`.padStart(`${this.#total}`.length)}/${this.#total}] round ${round}`;
    const figure = `${Math.round(value).toLocaleString('en')} ${row.unit}`;
    process.stderr.write(
      `${place}  ${row.title.padEnd(30)} ${kind.title.padEnd(17)} ${figure.padStart(14)}   ${this.#left()}\n`,
    );
  }

  /** @param missing - Measurements that will not be. */
  failed(row: Row, kind: ServerKind, reason: string, missing: number): void {
    this.#total -= missing;
    process.stderr.write(`${row.title}, ${kind.title}: ${reason}\n`);
  }

  #left(): string {
    const eachMs = (performance.now() - this.#startMs - this.#notesMs) / this.#done;
    const minutes = (eachMs * (this.#total - this.#done)) / 60_000;
    return minutes < 1 ? 'less than a minute left' : `about ${Math.ceil(minutes)} min left`;
  }

  /** What is no measurement does not count for the estimate. */
  #endNote(): void {
    if (this.#noteMs !== null) this.#notesMs += performance.now() - this.#noteMs;
    this.#noteMs = null;
  }
}

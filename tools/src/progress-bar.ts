/**
 * A line that shows how far long work has come, on a terminal, from the second second on. Thirty lines of our own:
 * the libraries for this bring colours, themes and several bars, and none of them waits before it shows.
 */
import type { Clock } from '@store/core';

const QUIET_MS = 1000;
const REDRAW_MS = 100;
const BAR_WIDTH = 30;
const CLEAR_LINE = '\r\x1b[K';

interface Terminal {
  readonly isTTY?: boolean;
  write(text: string): unknown;
}

export class ProgressBar {
  readonly #label: string;
  readonly #clock: Clock;
  readonly #terminal: Terminal;
  readonly #startedAt: number;
  #drawnAt = -Infinity;

  constructor(label: string, clock: Clock, terminal: Terminal = process.stderr) {
    this.#label = label;
    this.#clock = clock;
    this.#terminal = terminal;
    this.#startedAt = clock.now();
  }

  /** Call it as often as you like. */
  update(done: number, total: number): void {
    const now = this.#clock.now();
    if (this.#terminal.isTTY !== true || now - this.#startedAt < QUIET_MS) return;
    if (now - this.#drawnAt < REDRAW_MS && done < total) return;
    this.#drawnAt = now;
    const part = total === 0 ? 1 : done / total;
    const bar = '#'.repeat(Math.round(part * BAR_WIDTH)).padEnd(BAR_WIDTH, '.');
    const percent = String(Math.floor(part * 100)).padStart(3);
    this.#terminal.write(`${CLEAR_LINE}${this.#label} [${bar}] ${percent} % (${done}/${total})`);
  }

  /** Removes the line. */
  finish(): void {
    if (this.#drawnAt !== -Infinity) this.#terminal.write(CLEAR_LINE);
  }
}

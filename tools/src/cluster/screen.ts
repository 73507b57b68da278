/** Shows text again and again in the same place of a terminal, without flicker; elsewhere one after the other. */
const HOME = '\x1b[H';
const CLEAR_LINE = '\x1b[K';
const CLEAR_BELOW = '\x1b[J';
const CLEAR = '\x1b[2J';

interface Terminal {
  readonly isTTY?: boolean;
  readonly rows?: number;
  write(text: string): unknown;
}

export class Screen {
  readonly #terminal: Terminal;
  #isFirst = true;

  constructor(terminal: Terminal) {
    this.#terminal = terminal;
  }

  show(text: string): void {
    const before = this.#isFirst ? CLEAR : '';
    const separator = this.#isFirst ? '' : '\n';
    this.#isFirst = false;
    const { isTTY, rows = 24 } = this.#terminal;
    if (isTTY !== true) {
      this.#terminal.write(`${separator}${text}\n`);
      return;
    }
    const lines = text.split('\n');
    // What does not fit would scroll, and leave its head behind.
    const shown = lines.length < rows ? lines : [...lines.slice(0, rows - 2), '...'];
    const drawn = shown.map((line) => `${line}${CLEAR_LINE}\n`).join('');
    this.#terminal.write(`${before}${HOME}${drawn}${CLEAR_BELOW}`);
  }
}

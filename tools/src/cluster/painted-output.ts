/** Lines of several programs in one terminal: each begins with the name of who said it, in a colour of its own. */
const COLOURS = [36, 33, 32, 35, 34, 96, 93, 92, 95, 94] as const;
const NAME_WIDTH = 7;

export class PaintedOutput {
  readonly #stream: NodeJS.WriteStream;
  readonly #isPainted: boolean;
  readonly #colours = new Map<string, number>();

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream;
    this.#isPainted = stream.isTTY && process.env['NO_COLOR'] === undefined;
  }

  line(name: string, text: string): void {
    const label = name.padEnd(NAME_WIDTH);
    this.#stream.write(`${this.#paint(name, label)} ${text}\n`);
  }

  #paint(name: string, label: string): string {
    if (!this.#isPainted) return label;
    const colour = this.#colours.get(name) ?? COLOURS[this.#colours.size % COLOURS.length] ?? 0;
    this.#colours.set(name, colour);
    return `\x1b[${colour}m${label}\x1b[0m`;
  }
}

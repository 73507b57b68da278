/** Reads Server-Sent Events as they come; a test asks for one after the other. */

export interface ReadEvent {
  readonly name: string;
  readonly value: unknown;
}

/** The part of a test that undoes things. */
interface HasTeardown {
  teardown(undo: () => unknown): void;
}

const WAIT_MS = 10_000;

export class EventReader {
  readonly #abort: AbortController;
  readonly #parts: AsyncIterator<string>;
  #text = '';

  static async open(t: HasTeardown, url: string): Promise<EventReader> {
    const abort = new AbortController();
    t.teardown(() => abort.abort());
    const signal = AbortSignal.any([abort.signal, AbortSignal.timeout(WAIT_MS)]);
    const { body, status } = await fetch(url, { signal });
    if (status !== 200 || body === null) throw new Error(`the stream of events answers ${status}`);
    return new EventReader(abort, body.pipeThrough(new TextDecoderStream()));
  }

  private constructor(abort: AbortController, text: ReadableStream<string>) {
    this.#abort = abort;
    this.#parts = text[Symbol.asyncIterator]();
  }

  /** @throws Error if the stream has ended */
  async next(): Promise<ReadEvent> {
    const event = await this.#read();
    if (event === null) throw new Error('the stream of events has ended');
    return event;
  }

  async skipTo(name: string): Promise<void> {
    while ((await this.next()).name !== name);
  }

  /** Waits for the end. */
  async ended(): Promise<void> {
    while ((await this.#read()) !== null);
  }

  close(): void {
    this.#abort.abort();
  }

  async #read(): Promise<ReadEvent | null> {
    while (!this.#text.includes('\n\n')) {
      const part = await this.#parts.next();
      if (part.done === true) return null;
      this.#text += part.value;
    }
    const [event = '', ...rest] = this.#text.split('\n\n');
    this.#text = rest.join('\n\n');
    const [, name = '', data = ''] = /^event: (.*)\ndata: (.*)$/.exec(event) ?? [];
    return { name, value: JSON.parse(data) };
  }
}

/** Where some wait for what others prepare. It opens once, or never. */
export class Gate {
  /** Resolves when the gate opens; rejects if it never will. */
  readonly passed: Promise<void>;
  #open: () => void = () => undefined;
  #refuse: (error: unknown) => void = () => undefined;

  constructor() {
    this.passed = new Promise((resolve, reject) => {
      this.#open = resolve;
      this.#refuse = reject;
    });
    // Those who wait hear of it; that nobody does is no error.
    this.passed.catch(() => undefined);
  }

  /** Opens when `work` is done. @throws What `work` throws; the gate stays closed then */
  async passAfter(work: () => Promise<void>): Promise<void> {
    await work();
    this.#open();
  }

  /** It will never open, because of `error`. Means nothing once it is open. */
  refuse(error: unknown): void {
    this.#refuse(error);
  }
}

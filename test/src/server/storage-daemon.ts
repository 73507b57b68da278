/** A running `store file-store`. */
import { reservePort } from '@store/core/testing';
import type { HasTeardown } from '../host/temp-folder.js';
import { RestartableProgram } from './restartable-program.js';

export interface StorageDaemonOptions {
  /** The data folder, or where it is at the next start. */
  readonly dir: string | (() => string);
  /** More arguments. */
  readonly args?: readonly string[];
  /** Where clients connect: on a port of its own unless told, which stays the same when it starts again. */
  readonly port?: number;
  /** `127.0.0.1` unless told. */
  readonly host?: string;
  /** See `RestartableProgram`. */
  readonly wrapper?: readonly string[];
}

export class StorageDaemon extends RestartableProgram {
  readonly #options: StorageDaemonOptions;
  #port: number;

  private constructor(t: HasTeardown, options: StorageDaemonOptions, port: number) {
    super(t, 'store file-store');
    this.#options = options;
    this.#port = port;
  }

  /** Starts the program and waits until it serves. @throws Error with what it said, if it does not */
  static async start(t: HasTeardown, options: StorageDaemonOptions): Promise<StorageDaemon> {
    const daemon = new StorageDaemon(t, options, options.port ?? (await reservePort()));
    await daemon.startAgain();
    return daemon;
  }

  /** `127.0.0.1:PORT`, as `--storage-daemon` takes it. */
  get address(): string {
    return `${this.#options.host ?? '127.0.0.1'}:${this.#port}`;
  }

  get port(): number {
    return this.#port;
  }

  protected override get wrapper(): readonly string[] {
    return this.#options.wrapper ?? [];
  }

  protected override get args(): readonly string[] {
    const { dir, args = [] } = this.#options;
    const folder = typeof dir === 'string' ? dir : dir();
    return ['file-store', '--dir', folder, '--listen-address', this.address, ...args];
  }

  protected override announced(line: string): void {
    this.#port = Number(/:(\d+)$/.exec(line)?.[1]);
  }
}

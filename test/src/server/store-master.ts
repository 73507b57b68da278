/** A running `store master`. */
import { reservePort } from '@store/core/testing';
import type { HasTeardown } from '../host/temp-folder.js';
import { RestartableProgram } from './restartable-program.js';

export interface StoreMasterOptions {
  readonly stateDir: string;
  /** More arguments. */
  readonly args?: readonly string[];
  /** Serves HTTP as well. */
  readonly http?: boolean;
  /** As `NODE_OPTIONS`. */
  readonly nodeOptions?: string;
  /** `127.0.0.1` unless told. */
  readonly host?: string;
  /** See `RestartableProgram`. */
  readonly wrapper?: readonly string[];
}

const HEALTH_MS = 30_000;

export class StoreMaster extends RestartableProgram {
  readonly #options: StoreMasterOptions;
  #peer: string;
  #listen: string;
  #http: string;

  private constructor(
    t: HasTeardown,
    options: StoreMasterOptions,
    places: { readonly peer: string; readonly listen: string; readonly http: string },
  ) {
    super(t, 'store master');
    this.#options = options;
    this.#peer = places.peer;
    this.#listen = places.listen;
    this.#http = places.http;
  }

  /** Starts the program and waits until it serves. @throws Error with what it said, if it does not */
  static async start(t: HasTeardown, options: StoreMasterOptions): Promise<StoreMaster> {
    const anywhere = async (): Promise<string> =>
      `${options.host ?? '127.0.0.1'}:${await reservePort()}`;
    const places = { peer: await anywhere(), listen: await anywhere(), http: await anywhere() };
    const master = new StoreMaster(t, options, places);
    await master.startAgain();
    return master;
  }

  /** For daemons: `127.0.0.1:PORT`, the same when it starts again. */
  get peer(): string {
    return this.#peer;
  }

  /** For clients, likewise. */
  get listen(): string {
    return this.#listen;
  }

  /** What `/healthz` answers: 200 or 503. */
  async health(): Promise<number> {
    const signal = AbortSignal.timeout(HEALTH_MS);
    return (await fetch(`http://${this.#http}/healthz`, { signal })).status;
  }

  /** What the HTTP API answers at this path; it must be served. @throws Error unless it is found */
  async asked<T>(path: string): Promise<T> {
    const signal = AbortSignal.timeout(HEALTH_MS);
    const answer = await fetch(`http://${this.#http}/api/v1/${path}`, { signal });
    if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
    return (await answer.json()) as T; // the type is in what the path names
  }

  protected override get wrapper(): readonly string[] {
    return this.#options.wrapper ?? [];
  }

  protected override get environment(): NodeJS.ProcessEnv {
    const { nodeOptions = '' } = this.#options;
    return { ...process.env, NODE_OPTIONS: nodeOptions };
  }

  protected override get args(): readonly string[] {
    const { stateDir, args = [], http = false } = this.#options;
    const places = ['--peer-address', this.#peer, '--listen-address', this.#listen];
    const web = http ? ['--http', this.#http] : [];
    return ['master', '--json', '--state-dir', stateDir, ...places, ...web, ...args];
  }

  protected override announced(line: string): void {
    const places = JSON.parse(line) as {
      peerAddress: string;
      listenAddress: string;
      httpAddress: string | null;
    };
    this.#peer = places.peerAddress;
    this.#listen = places.listenAddress;
    this.#http = places.httpAddress?.replace('http://', '') ?? this.#http;
  }
}

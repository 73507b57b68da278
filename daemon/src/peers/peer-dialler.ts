/**
 * Makes the link to one daemon, and makes it again when it breaks, for as long as it is wanted. What is dialled is the
 * start that the newest map names; a newer map, or a daemon that comes back, is tried at once.
 */
import {
  BackOff,
  errorFromStatus,
  parseMasterAddress,
  PROTOCOL_VERSION,
  StoreError,
  type BufferPool,
  type Connection,
  type Env,
} from '@store/core';
import { PeerConnection } from './peer-connection.js';
import { decodeWelcome, encodeMeet, LINK_ID_BYTES, type PeerSelf } from './peer-greeting.js';
import type { Channel } from './peer-ops.js';
import { secureDialled, type PeerSecurity } from './secure-connection.js';

/** Whom to dial. */
export interface PeerTarget {
  readonly daemon: number;
  readonly diskId: string;
  readonly startId: string;
  readonly address: string;
}

/** Both connections of a link that was made. */
export interface Dialled {
  readonly control: PeerConnection;
  readonly data: PeerConnection;
}

export interface PeerDiallerOptions {
  readonly env: Env;
  readonly security: PeerSecurity;
  readonly buffers: BufferPool;
  /** Null: this daemon is nobody yet. */
  readonly self: () => PeerSelf | null;
  /** By the newest map; null: it is not up. */
  readonly target: () => PeerTarget | null;
  /** @returns when the link is over; null: it was over at once */
  readonly linked: (target: PeerTarget, dialled: Dialled) => Promise<void>;
  readonly defect: (error: unknown) => void;
}

const CONNECT_MS = 3000;
const GREETING_MS = 3000;
/** The longest pause is a quarter of it. */
const PATIENCE_MS = 4000;
/** A link that lasted so long is made again without delay. */
const STEADY_MS = 2000;

export class PeerDialler {
  readonly #options: PeerDiallerOptions;
  readonly #backOff: BackOff;
  #isClosed = false;
  #wake: () => void = () => undefined;
  /** The target that was dialled last, to know a new one. */
  #tried: PeerTarget | null = null;
  /** What the log says of failures: each once. */
  #said = '';

  constructor(options: PeerDiallerOptions) {
    this.#options = options;
    this.#backOff = new BackOff(options.env.random, PATIENCE_MS);
    this.#keep().catch((error: unknown) => options.defect(error));
  }

  /** The map is newer: if it names another start, or place, that is dialled at once. */
  look(): void {
    const target = this.#options.target();
    if (target === null || isSame(target, this.#tried)) return;
    this.#backOff.reset();
    this.#wake();
  }

  close(): void {
    this.#isClosed = true;
    this.#wake();
  }

  async #keep(): Promise<void> {
    const { clock } = this.#options.env;
    while (!this.#isOver()) {
      const startedAt = clock.now();
      try {
        await this.#once();
        this.#said = '';
      } catch (error) {
        if (!(error instanceof StoreError)) throw error;
        this.#say(error);
      }
      if (clock.now() - startedAt > STEADY_MS) this.#backOff.reset();
      await this.#pause(this.#backOff.next());
    }
  }

  /** For after a wait: the compiler believes that nothing changed meanwhile. */
  #isOver(): boolean {
    return this.#isClosed;
  }

  /** One link, from the first byte to the last. @throws StoreError why there is none */
  async #once(): Promise<void> {
    const { self: selfNow, target: targetNow, linked, env } = this.#options;
    const [self, target] = [selfNow(), targetNow()];
    this.#tried = target;
    if (self === null || target === null) return;
    const linkId = env.random.bytes(LINK_ID_BYTES).toString('hex');
    const control = await this.#meet(self, target, 'control', linkId);
    let data: PeerConnection;
    try {
      data = await this.#meet(self, target, 'data', linkId);
    } catch (error) {
      control.fail(closedError());
      throw error;
    }
    if (this.#isOver() || !isSame(targetNow(), target)) {
      control.fail(closedError());
      data.fail(closedError());
      return;
    }
    await linked(target, { control, data });
  }

  async #meet(
    self: PeerSelf,
    target: PeerTarget,
    channel: Channel,
    linkId: string,
  ): Promise<PeerConnection> {
    const { env, security } = this.#options;
    const address = parseMasterAddress(target.address);
    if (address === undefined)
      throw new StoreError('E_INVALID', `${target.address} is no address to connect to`);
    const dialled = await env.network.connect(address, { timeoutMs: CONNECT_MS });
    const connection = await secureDialled(env, security, dialled, address.host);
    const greeting = encodeMeet({
      ...self,
      versionMin: PROTOCOL_VERSION,
      versionMax: PROTOCOL_VERSION,
      channel,
      wanted: target.daemon,
      wantedStart: target.startId,
      linkId,
    });
    return this.#greet(connection, greeting, target);
  }

  /** @throws StoreError why it does not want us, or is not who it should be */
  #greet(connection: Connection, greeting: Buffer, target: PeerTarget): Promise<PeerConnection> {
    const { env, buffers, defect } = this.#options;
    return new Promise((resolve, reject) => {
      const timer = env.timers.after(GREETING_MS, () =>
        greeted.fail(new StoreError('E_TIMEOUT', `${target.address} does not answer a greeting`)),
      );
      const greeted = new PeerConnection(connection, 'dials', buffers, {
        met: ({ status }, body) => {
          timer.cancel();
          if (status !== 0) throw errorFromStatus(status, body.toString());
          checkWelcome(body, target);
          resolve(greeted);
        },
        received: () => undefined,
        pulse: () => undefined,
        closed: (error) => {
          timer.cancel();
          reject(error);
        },
        defect,
      });
      greeted.write(greeting);
    });
  }

  #say(error: StoreError): void {
    const { env, target } = this.#options;
    const { daemon, address } = target() ?? { daemon: 0, address: '' };
    const fields = { daemon, address, code: error.code };
    const text = `No link to another daemon: ${error.message}`;
    // Two maps that are not the same for a moment.
    const isExpected = error.code === 'E_STALE_MAP' || error.code === 'E_BUSY';
    if (isExpected || text === this.#said) env.log.debug(fields, text);
    else env.log.warn(fields, text);
    this.#said = text;
  }

  async #pause(ms: number): Promise<void> {
    if (this.#isClosed) return;
    await new Promise<void>((resolve) => {
      const timer = this.#options.env.timers.after(ms, resolve);
      this.#wake = () => {
        timer.cancel();
        resolve();
      };
    });
    this.#wake = () => undefined;
  }
}

/** @throws StoreError `E_DENIED` if somebody else answers */
function checkWelcome(body: Buffer, target: PeerTarget): void {
  const { version, daemon, diskId, startId } = decodeWelcome(body);
  if (version !== PROTOCOL_VERSION)
    throw new StoreError('E_PROTOCOL_VERSION', `${target.address} chose version ${version}`);
  if (daemon !== target.daemon || diskId !== target.diskId || startId !== target.startId)
    throw new StoreError(
      'E_DENIED',
      `At ${target.address} is daemon ${daemon}, start ${startId}, and not daemon ${target.daemon}, start ${target.startId}`,
    );
}

function isSame(a: PeerTarget | null, b: PeerTarget | null): boolean {
  return a !== null && b !== null && a.startId === b.startId && a.address === b.address;
}

function closedError(): StoreError {
  return new StoreError('E_CLOSED', 'The link is not wanted any more');
}

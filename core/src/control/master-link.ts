/**
 * The way to the master that leads. Several may be named; whoever does not lead says who does. When the connection
 * breaks, or the leader changes, it is found again, for as long as this is not closed.
 */
import type { ClientKey } from '../auth/client-key.js';
import type { Env } from '../env/env.js';
import type { TlsClientContext } from '../env/network.js';
import { invariant } from '../util/invariant.js';
import { messageOf, StoreError } from '../util/errors.js';
import type { JsonFields } from '../wire/json-body.js';
import { ControlChannel, type ControlMessage } from './control-channel.js';
import { CONTROL, type ControlOp } from './control-ops.js';
import { BackOff } from '../env/back-off.js';
import { meetMaster, type MasterGreeting } from './meeting.js';

/** `host:port` of a machine, taken apart. */
export interface MasterAddress {
  readonly host: string;
  readonly port: number;
}

export interface MasterLinkEvents {
  /**
   * A leader was found and knows us. What must be said before anybody else may ask is said here.
   * @throws StoreError: this one does not do; another try follows
   */
  met(channel: ControlChannel, master: MasterGreeting): Promise<void>;
  asked(op: ControlOp, message: ControlMessage): Promise<ControlMessage>;
  /** There is no leader just now. Told once, until one was met again. */
  lost(error: StoreError): void;
  defect(error: unknown): void;
}

export interface MasterLinkOptions {
  readonly env: Env;
  readonly masters: readonly MasterAddress[];
  /** At `peer` TLS begins at once, at `listen` after it was asked for. */
  readonly entrance: 'peer' | 'listen';
  /** Null: in the clear. */
  readonly tls: TlsClientContext | null;
  /** What we are, for logs. */
  readonly name: string;
  readonly key: ClientKey | null;
  readonly events: MasterLinkEvents;
  /** Bytes of one message of a master. */
  readonly payloadMax: number;
}

const CONNECT_MS = 4000;
const SILENCE_MS = 6000;
const PATIENCE_MS = 4000;
/** Who stayed with a leader for so long begins to look anew without delay. */
const STEADY_MS = 2000;
/** From one who does not lead to the one that it names, and not for ever. */
const REDIRECTS_MAX = 3;

export class MasterLink {
  readonly #options: MasterLinkOptions;
  readonly #backOff: BackOff;
  #channel: ControlChannel | null = null;
  #isClosed = false;
  #isLost = false;
  /** Who to ask next, of those named. */
  #turn = 0;
  #failure: StoreError = new StoreError('E_UNREACHABLE', 'No master was asked yet');
  /** Who waits for a leader, or for the next failure to find one. */
  readonly #waiting = new Set<(channel: ControlChannel | null) => void>();

  constructor(options: MasterLinkOptions) {
    invariant(options.masters.length > 0, 'there is a master to ask');
    this.#options = options;
    this.#backOff = new BackOff(options.env.random, PATIENCE_MS);
    void this.#keep();
  }

  get isUp(): boolean {
    return this.#channel?.isOpen === true;
  }

  /** Why there is no leader. */
  get failure(): StoreError {
    return this.#failure;
  }

  /**
   * Waits until there is a leader.
   * @throws StoreError why there is none after `deadlineMs`; at once if no other try can help (`E_DENIED`)
   */
  async up(deadlineMs: number): Promise<ControlChannel> {
    const { clock } = this.#options.env;
    const deadline = clock.now() + deadlineMs;
    for (;;) {
      if (this.#isClosed) throw closedError();
      // One that has just broken is still here for a moment; what it is asked was never sent.
      if (this.#channel?.isOpen === true) return this.#channel;
      const left = deadline - clock.now();
      if (left <= 0) throw this.#failure;
      const found = await this.#next(left);
      if (found === null && !this.#closed() && isFinal(this.#failure)) throw this.#failure;
    }
  }

  /**
   * Asks the leader, as soon as there is one.
   * @param repeats - Ask again if the answer was lost: only what does no harm twice.
   * @throws StoreError what it answers; why there is none; `E_IN_DOUBT` if the answer was lost and may not be asked for again
   */
  async ask(
    op: ControlOp,
    fields: JsonFields,
    { deadlineMs, repeats }: { deadlineMs: number; repeats: boolean },
  ): Promise<ControlMessage> {
    const { clock } = this.#options.env;
    const deadline = clock.now() + deadlineMs;
    for (;;) {
      const channel = await this.up(Math.max(1, deadline - clock.now()));
      try {
        return await channel.ask(op, fields, { deadlineMs: Math.max(1, deadline - clock.now()) });
      } catch (error) {
        if (!(error instanceof StoreError)) throw error;
        if (error.code === 'E_NOT_LEADER') channel.fail(error);
        else if (channel.isOpen && error.code !== 'E_TIMEOUT') throw error;
        else if (!repeats)
          throw new StoreError(
            'E_IN_DOUBT',
            `The answer of the master was lost (${error.message}): it was done, or it was not; look before you try again`,
            { cause: error },
          );
        if (clock.now() >= deadline) throw error;
      }
    }
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#channel?.end(closedError());
    this.#wake(null);
  }

  async #keep(): Promise<void> {
    const { env, events } = this.#options;
    while (!this.#isClosed) {
      try {
        const startedAt = env.clock.now();
        await this.#find();
        // One that lets us in and ends it at once is not asked again at once.
        if (env.clock.now() - startedAt > STEADY_MS) this.#backOff.reset();
        else await env.timers.sleep(this.#backOff.next());
      } catch (error) {
        if (!(error instanceof StoreError)) {
          events.defect(error);
          return;
        }
        this.#failed(error);
        await env.timers.sleep(isFinal(error) ? PATIENCE_MS / 2 : this.#backOff.next());
      }
    }
  }

  /** Finds a leader and stays with it; returns when it is gone. @throws StoreError why none was found */
  async #find(): Promise<void> {
    const { masters, events } = this.#options;
    let address = masters[this.#turn % masters.length];
    this.#turn += 1;
    for (let redirects = 0; address !== undefined; redirects += 1) {
      let over: (error: StoreError) => void = () => undefined;
      const gone = new Promise<StoreError>((resolve) => (over = resolve));
      const { channel, master } = await this.#meet(address, over);
      if (this.#isClosed) channel.end(closedError());
      if (!master.isLeader) {
        channel.end(new StoreError('E_NOT_LEADER', `${channel.name} does not lead`));
        address = redirects < REDIRECTS_MAX ? parseMasterAddress(master.leader) : undefined;
        continue;
      }
      try {
        await events.met(channel, master);
      } catch (error) {
        channel.fail(error instanceof StoreError ? error : closedError());
        throw error;
      }
      if (channel.isOpen) this.#isUp(channel);
      const error = await gone;
      this.#channel = null;
      this.#failed(error);
      return;
    }
    throw new StoreError(
      'E_UNREACHABLE',
      'No master leads just now; they choose one as soon as most of their store (etcd) answers',
    );
  }

  async #meet(
    address: MasterAddress,
    over: (error: StoreError) => void,
  ): Promise<{ channel: ControlChannel; master: MasterGreeting }> {
    const { env, tls, entrance, events, name, key, payloadMax } = this.#options;
    const connection = await env.network.connect(address, { timeoutMs: CONNECT_MS });
    const channel = new ControlChannel(env, connection, {
      name: `The master at ${address.host}:${address.port}`,
      silenceMs: SILENCE_MS,
      events: {
        asked: (op, message) => events.asked(op, message),
        closed: over,
        defect: (error) => events.defect(error),
      },
    });
    try {
      if (tls !== null) {
        if (entrance === 'listen')
          await channel.ask(CONTROL.startTls, {}, { deadlineMs: CONNECT_MS });
        await channel.startTlsClient(tls, address.host);
      }
      const { random } = env;
      const master = await meetMaster(channel, { name, key, random, deadlineMs: CONNECT_MS });
      channel.trust(payloadMax);
      return { channel, master };
    } catch (error) {
      channel.fail(
        error instanceof StoreError ? error : new StoreError('E_SYSTEM', messageOf(error)),
      );
      if (!(error instanceof StoreError) || error.code !== 'E_UNREACHABLE') throw error;
      const [what] = error.message.split(';');
      const advice = hungUpAdvice(entrance, tls !== null);
      throw new StoreError(error.code, `${what} at once; ${advice}`, { cause: error });
    }
  }

  #isUp(channel: ControlChannel): void {
    this.#channel = channel;
    this.#isLost = false;
    this.#wake(channel);
  }

  #failed(error: StoreError): void {
    this.#failure = error;
    if (this.#isClosed) return;
    if (!this.#isLost) this.#options.events.lost(error);
    this.#isLost = true;
    this.#wake(null);
  }

  /** For after a wait: the compiler believes that nothing changed meanwhile. */
  #closed(): boolean {
    return this.#isClosed;
  }

  #next(ms: number): Promise<ControlChannel | null> {
    return new Promise((resolve) => {
      const timer = this.#options.env.timers.after(ms, () => told(null));
      const told = (channel: ControlChannel | null): void => {
        timer.cancel();
        this.#waiting.delete(told);
        resolve(channel);
      };
      this.#waiting.add(told);
    });
  }

  #wake(channel: ControlChannel | null): void {
    for (const told of [...this.#waiting]) told(channel);
  }
}

/** `host:port` or `[v6]:port`; undefined for anything else. */
export function parseMasterAddress(text: string): MasterAddress | undefined {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^[\]:\s]+)):(\d{1,5})$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  return host === undefined || port < 1 || port > 65_535 ? undefined : { host, port };
}

/** What may be wrong where somebody hangs up without a word. */
function hungUpAdvice(entrance: 'peer' | 'listen', isTls: boolean): string {
  if (entrance === 'listen')
    return 'is that where a master listens for clients (its --listen-address)?';
  return isTls
    ? 'is that where a master listens for daemons (its --peer-address)? If it does not take this certificate, its log says why'
    : 'is that where a master listens for daemons (its --peer-address), and does it want a certificate (--peer-cert, --peer-key, --peer-ca-cert)?';
}

function isFinal({ code }: StoreError): boolean {
  return code === 'E_DENIED' || code === 'E_PROTOCOL_VERSION';
}

function closedError(): StoreError {
  return new StoreError('E_CLOSED', 'The way to the masters is closed');
}

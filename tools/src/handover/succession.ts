/**
 * The life of `store-nbd` from one process to the next. A life begins with what was inherited, from another process or,
 * after a hand-over that failed, from this one; it ends when the process shall stop, or with what it leaves.
 *
 *     let legacy = await succession.claim();
 *     do {
 *       // open the store, serve with `legacy`, `began`, `end`, close the store
 *       legacy = left === null ? null : await succession.passOn(left);
 *     } while (legacy !== null);
 *
 * That a failed hand-over takes the same way as a successful one, in this process, leaves no second way to get wrong.
 */
import { join } from 'node:path';
import {
  closeDescriptor,
  DescriptorChannel,
  messageOf,
  socketCalls,
  StoreError,
  UNIX_PATH_BYTES_MAX,
  type Connection,
  type ListenAddress,
  type Listener,
  type ListeningDescriptor,
} from '@store/core';
import { closeEstate, type Estate, type Inheritance, type NbdServer } from '@store/gateway-nbd';
import type { Context } from '../program.js';
import {
  formatAddress,
  HAND_OVER_VERSION,
  isSameAddress,
  messageIn,
  type Hello,
} from './messages.js';
import { awaitServing, passOn, withdraw } from './predecessor.js';
import { sdNotify } from './sd-notify.js';
import { Spawner } from './spawner.js';
import type { StopCheck } from './stop-check.js';
import { callServer, receiveAll, takeIt } from './successor.js';

/** In the data folder. */
export const CONTROL_SOCKET = 'store-nbd.ctl';
const HELLO_MS = 5000;
/** A name of a pool and an address: whoever calls may send no more before it is the one that takes over. */
const HELLO_LIMITS = { jsonBytes: 64 * 1024, bodyBytes: 0, descriptors: 0 } as const;
/** So many are heard at a time: one that is silent keeps nobody out, and all of them hold little. */
const CALLERS_MAX = 4;
/** A process that dies takes a moment to unlock the folder; one that has to be killed takes longer. */
const PATIENCE_MS = 30_000;

/** What a life begins with. */
export interface Legacy {
  /** Sockets to listen on; empty: there are none yet. */
  readonly sockets: readonly ListeningDescriptor[];
  readonly inherited: Inheritance;
  /** How long whoever had the folder may take to let go of it. */
  readonly patienceMs: number;
}

export interface SuccessionOptions {
  /** Where the control socket is; null: there is no folder for it, so this server hands nothing over. */
  readonly dir: string | null;
  readonly pool: string;
  /** Where to listen; null: where the server that is replaced does. */
  readonly address: ListenAddress | null;
  /** `--replace` */
  readonly replaces: boolean;
}

export class Succession {
  readonly #context: Context;
  readonly #options: SuccessionOptions;
  readonly #spawner: Spawner;
  /** To the process that is replaced, until this one serves. */
  #predecessor: DescriptorChannel | null = null;
  /** The control socket that was inherited. */
  #control: ListeningDescriptor | null = null;
  #controlListener: Listener | null = null;
  /** To the process that wants to go on for this one. */
  #caller: { channel: DescriptorChannel; hello: Hello } | null = null;
  /** Processes that have called and did not say yet what they want. */
  #heardCount = 0;
  /** The last one that served, for the status line. */
  #server: NbdServer | null = null;
  #wake: () => void = () => undefined;
  /** Calls are answered. */
  #isServing = false;

  constructor(context: Context, options: SuccessionOptions) {
    this.#context = context;
    this.#options = options;
    this.#spawner = new Spawner(context.log, () => this.#tellReady(null));
    process.on('SIGUSR2', () => this.#onSignal());
    context.stop.addEventListener('abort', () => this.#wake(), { once: true });
  }

  /**
   * With `--replace`: what the running server hands over. Null: nothing runs, or nothing shall be replaced.
   * @throws StoreError if it does not hand over
   */
  async claim(): Promise<Legacy | null> {
    const { env, log } = this.#context;
    if (!this.#options.replaces) return null;
    const { dir } = this.#options;
    if (dir === null) throw new StoreError('E_INVALID', 'Only servers of a folder can be replaced');
    const path = controlPath(dir);
    const channel = callServer(env, path);
    if (channel === null) {
      log.info({ path }, 'No server runs that could be replaced: starting as always');
      return null;
    }
    this.#predecessor = channel;
    const { pool, address } = this.#options;
    const hello = { kind: 'hello', pool, address } as const;
    const received = await receiveAll(channel, hello, this.#stopCheck('new process'));
    const { sockets, sessions, control, isOrphaned } = received;
    this.#control = control;
    if (isOrphaned)
      log.error(
        { sessions: sessions.length },
        'The running server died while it handed over: going on with what it sent',
      );
    const inherited = {
      sessions,
      lenient: isOrphaned,
      confirm: () => (isOrphaned ? Promise.resolve() : this.#confirm(channel)),
    };
    return { sockets, inherited, patienceMs: PATIENCE_MS };
  }

  async #confirm(channel: DescriptorChannel): Promise<void> {
    if (!(await takeIt(channel, this.#stopCheck('new process'))))
      this.#context.log.error({}, 'The running server died in the end: going on with all it had');
  }

  /** Starting failed with `error`: the running server goes on. */
  async giveUp(error: unknown): Promise<void> {
    const channel = this.#predecessor;
    if (channel === null) return;
    this.#predecessor = null;
    try {
      await channel.send({ kind: 'no', message: messageOf(error) });
    } catch (sending) {
      if (!(sending instanceof StoreError)) throw sending; // it is gone, or has stopped listening
    }
    channel.close();
  }

  /** The server serves. */
  async began(server: NbdServer): Promise<void> {
    await this.#listenForCalls();
    this.#isServing = true;
    this.#tellReady(server);
    const channel = this.#predecessor;
    this.#predecessor = null;
    if (channel === null) return;
    try {
      await channel.send({ kind: 'serving' });
    } catch (error) {
      if (!(error instanceof StoreError)) throw error; // it has ended, which is all that it has to do
    }
    channel.close();
    this.#context.log.info({}, 'Took over from the running server');
  }

  /**
   * Waits for the end of `server`.
   * @param prepare - What can be done before clients have to wait, so that they wait less.
   * @returns What it leaves; null: this process shall stop, and `server` is still to be closed
   */
  async end(server: NbdServer, prepare: () => Promise<void>): Promise<Estate | null> {
    const { log } = this.#context;
    for (;;) {
      const call = await this.#nextCall();
      if (call === null) break;
      const { channel, hello } = call;
      log.info({ process: channel.peer?.pid }, 'Handing over to a new process');
      sdNotify({ RELOADING: '1', STATUS: 'Handing over to a new process' }, log);
      try {
        this.#check(hello, server);
        await prepare();
        if (this.#isStopped()) continue; // and refuse it
        return await server.handOver();
      } catch (error) {
        if (!(error instanceof StoreError)) throw error;
        log.error({ code: error.code }, `Not handed over, serving on: ${error.message}`);
        await this.#refuse(channel, error.message);
        this.#caller = null;
        this.#spawner.reset();
        this.#tellReady(server);
      }
    }
    this.#isServing = false;
    sdNotify({ STOPPING: '1' }, log);
    this.#spawner.cancel();
    await this.#controlListener?.close();
    return null;
  }

  /** Gives what a life left to the process that asked for it. @returns Null if it took it, else what to go on with */
  async passOn(estate: Estate): Promise<Legacy | null> {
    const { log } = this.#context;
    const call = this.#caller;
    const control = this.#controlListener?.release();
    if (call === null || control === undefined) throw new Error('somebody has called');
    const { channel } = call;
    this.#isServing = false;
    try {
      await passOn(channel, estate, control, this.#stopCheck('server'));
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      log.error(
        { code: error.code },
        `The new process did not take over, serving on: ${error.message}`,
      );
      await withdraw(channel, error.message, log);
      this.#caller = null;
      this.#spawner.reset();
      this.#control = control;
      const { sockets, sessions } = estate;
      const inherited = { sessions, lenient: true, confirm: () => Promise.resolve() };
      return { sockets, inherited, patienceMs: PATIENCE_MS };
    }
    closeEstate(estate);
    closeDescriptor(control.descriptor);
    await awaitServing(channel, log);
    const pid = channel.peer?.pid;
    // Before this process ends, or systemd would take the service for stopped.
    if (pid !== undefined) sdNotify({ MAINPID: String(pid) }, log);
    channel.close();
    log.info({ process: pid, sessions: estate.sessions.length }, 'Handed over');
    return null;
  }

  #isStopped(): boolean {
    return this.#context.stop.aborted;
  }

  #stopCheck(who: string): StopCheck {
    return () => {
      if (this.#isStopped())
        throw new StoreError('E_CLOSED', `The ${who} was told to stop meanwhile`);
    };
  }

  #onSignal(): void {
    const { log } = this.#context;
    if (!this.#isServing || this.#caller !== null || this.#spawner.isBusy) {
      log.warn({}, 'SIGUSR2 ignored: a hand-over is under way, or this process does not serve yet');
      return;
    }
    if (this.#controlListener === null) {
      log.error({}, 'SIGUSR2 ignored: this server has no control socket; an earlier line says why');
      return;
    }
    sdNotify({ RELOADING: '1', STATUS: 'Starting a new process' }, log);
    this.#spawner.start();
  }

  /** @throws StoreError `E_IN_USE` if the new process would serve something else */
  #check(hello: Hello, server: NbdServer): void {
    const { pool, address } = this.#options;
    if (hello.pool !== pool)
      throw new StoreError(
        'E_IN_USE',
        `It serves pool '${pool}' and the new process wants '${hello.pool}'; stop it first`,
      );
    const wants = hello.address;
    if (wants === null || isSameAddress(wants, server.address)) return;
    if (address !== null && isSameAddress(wants, address)) return;
    throw new StoreError(
      'E_IN_USE',
      `It listens on ${formatAddress(server.address)} and the new process wants ${formatAddress(wants)}; start it with the same address, or stop the server first`,
    );
  }

  /** Null: this process shall stop. */
  async #nextCall(): Promise<{ channel: DescriptorChannel; hello: Hello } | null> {
    while (!this.#isStopped() && this.#caller === null)
      await new Promise<void>((resolve) => (this.#wake = resolve));
    if (!this.#isStopped()) return this.#caller;
    if (this.#caller !== null) await this.#refuse(this.#caller.channel, 'it is stopping');
    return null;
  }

  /** A server without a control socket serves all the same. */
  async #listenForCalls(): Promise<void> {
    const { env, log } = this.#context;
    const inherited = this.#control;
    this.#control = null;
    const { dir } = this.#options;
    if (dir === null) {
      log.info({}, 'No planned restarts: they need a folder (--dir)');
      return;
    }
    const accept = (connection: Connection): void => void this.#answerCall(connection);
    if (socketCalls() === null) {
      log.warn(
        {},
        'No planned restarts: they need the npm package koffi; install the packages again',
      );
      return;
    }
    try {
      const path = controlPath(dir);
      this.#controlListener =
        inherited === null
          ? await env.network.listen({ path }, accept)
          : await env.network.listenOn(inherited, accept);
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      this.#controlListener = null;
      log.warn({}, `No planned restarts: ${error.message}`);
    }
  }

  async #answerCall(connection: Connection): Promise<void> {
    const { env, log } = this.#context;
    const socket = connection.release();
    if (socket === null) return; // it is gone already
    const channel = new DescriptorChannel(socket, { ...env, version: HAND_OVER_VERSION });
    try {
      const uid = channel.peer?.uid;
      if (uid !== 0 && uid !== process.getuid?.())
        throw new StoreError('E_INVALID', `User ${uid ?? '?'} may not replace this server`);
      const hello = await this.#helloOf(channel);
      this.#caller = { channel, hello };
      this.#spawner.called();
      this.#wake();
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      log.warn(
        { process: channel.peer?.pid },
        `A call on the control socket failed: ${error.message}`,
      );
      await this.#refuse(channel, error.message);
    }
  }

  /** @throws StoreError `E_IN_USE` if somebody else takes over, or too many call; or if this is no call */
  async #helloOf(channel: DescriptorChannel): Promise<Hello> {
    this.#checkIsFree();
    if (this.#heardCount >= CALLERS_MAX)
      throw new StoreError(
        'E_IN_USE',
        `${CALLERS_MAX} processes have called and said nothing; try again in a few seconds`,
      );
    this.#heardCount += 1;
    try {
      const received = await channel.receive(HELLO_MS, HELLO_LIMITS);
      if (received === null) throw new StoreError('E_CLOSED', 'It said nothing');
      const hello = messageIn(received);
      if (hello.kind !== 'hello') throw new StoreError('E_FORMAT', `It said '${hello.kind}' first`);
      this.#checkIsFree(); // it may have been told to stop meanwhile
      return hello;
    } finally {
      this.#heardCount -= 1;
    }
  }

  #checkIsFree(): void {
    if (!this.#isServing || this.#caller !== null)
      throw new StoreError('E_IN_USE', 'another hand-over is under way');
  }

  async #refuse(channel: DescriptorChannel, message: string): Promise<void> {
    try {
      await channel.send({ kind: 'refused', message });
    } catch (error) {
      if (!(error instanceof StoreError)) throw error; // it is gone, and needs no answer
    }
    channel.close();
  }

  #tellReady(server: NbdServer | null): void {
    this.#server = server ?? this.#server;
    const where = this.#server === null ? '' : ` on ${formatAddress(this.#server.address)}`;
    const state = { READY: '1', MAINPID: String(process.pid), STATUS: `Serving${where}` };
    sdNotify(state, this.#context.log);
  }
}

function controlPath(dir: string): string {
  const path = join(dir, CONTROL_SOCKET);
  if (Buffer.byteLength(path) <= UNIX_PATH_BYTES_MAX) return path;
  throw new StoreError(
    'E_SYSTEM',
    `The path of the control socket, ${path}, has more than ${UNIX_PATH_BYTES_MAX} bytes; choose a shorter --dir`,
  );
}

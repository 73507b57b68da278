/**
 * A watch in etcd. A stream that ends, says nothing for a while or comes from a member without a leader is begun anew at
 * the next endpoint, after the last revision that was told completely; so each change is told once. Only when etcd has
 * compacted what comes next is there a gap, and the watch over.
 */
import { BackOff, invariant, StoreError, type Timer } from '@store/core';
import type { EtcdFailure } from './etcd-failure.js';
import type { EtcdGateway } from './etcd-gateway.js';
import { base64, type EtcdJson } from './etcd-json.js';
import type { StateListener, StateWatch } from './state-store.js';

export interface WatchRange {
  /** What stands before the keys in etcd and not in what is told. */
  readonly root: string;
  readonly prefix: string;
  /** As `StateStore.watch`. */
  readonly afterRevision: number;
}

interface OpenBatch {
  readonly revision: number;
  readonly changes: { key: string; value: Buffer | null }[];
}

interface WatchEvent {
  readonly revision: number;
  readonly key: string;
  readonly value: Buffer | null;
}

interface WatchMessage {
  /** 0: nothing was missed. */
  readonly compactedAt: number;
  /** Why etcd ended the watch. */
  readonly cancelled: string | null;
  readonly isCreated: boolean;
  /** The last revision may go on in the next message. */
  readonly isFragment: boolean;
  readonly events: readonly WatchEvent[];
}

export class EtcdWatch implements StateWatch {
  readonly #gateway: EtcdGateway;
  readonly #range: WatchRange;
  readonly #listener: StateListener;
  readonly #idleMs: number;
  readonly #forget: () => void;
  readonly #backOff: BackOff;
  /** Everything up to here was told. */
  #after: number;
  /** Changes of one revision, of which more may come: etcd cuts long messages. */
  #open: OpenBatch | null = null;
  #stream: { abort(): void } | null = null;
  #timer: Timer | null = null;
  #isOver = false;

  /**
   * @param idleMs - How long a stream may say nothing. etcd's own sign of life comes every ten minutes.
   * @param forget - Called when the watch is over.
   */
  constructor(
    gateway: EtcdGateway,
    range: WatchRange,
    listener: StateListener,
    options: { idleMs: number; forget: () => void },
  ) {
    this.#gateway = gateway;
    this.#range = range;
    this.#listener = listener;
    this.#idleMs = options.idleMs;
    this.#forget = options.forget;
    this.#after = range.afterRevision;
    this.#backOff = new BackOff(gateway.env.random, gateway.patienceMs);
    this.#connect();
  }

  stop(): void {
    this.#isOver = true;
    this.#stream?.abort();
    this.#timer?.cancel();
    this.#forget();
  }

  #connect(): void {
    const key = this.#range.root + this.#range.prefix;
    const body = {
      create_request: {
        key: base64(key),
        range_end: base64(endOfPrefix(key)),
        start_revision: `${this.#after + 1}`,
        fragment: true,
      },
    };
    this.#open = null;
    this.#stream = this.#gateway.stream('/v3/watch', body, {
      message: (json) => this.#message(json),
      ended: (failure) => this.#ended(failure),
    });
    this.#giveUpAfter(this.#gateway.requestMs);
  }

  #message(json: EtcdJson): void {
    let message: WatchMessage;
    try {
      message = readMessage(json, this.#range.root);
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      this.#cancelled(error.message);
      return;
    }
    if (message.compactedAt > 0) {
      this.stop();
      this.#listener.lost(
        `etcd has compacted its history up to ${message.compactedAt}, and the changes after ${this.#after} with it`,
      );
      return;
    }
    if (message.cancelled !== null) {
      this.#cancelled(message.cancelled);
      return;
    }
    this.#giveUpAfter(this.#idleMs);
    if (message.isCreated) this.#backOff.reset();
    for (const event of message.events) this.#event(event);
    if (!message.isFragment) this.#tell();
  }

  #event({ revision, key, value }: WatchEvent): void {
    if (revision <= this.#after) return;
    if (this.#open !== null && this.#open.revision !== revision) this.#tell();
    this.#open ??= { revision, changes: [] };
    this.#open.changes.push({ key, value });
  }

  /** The revision that was open is complete. */
  #tell(): void {
    if (this.#open === null || this.#isOver) return;
    const batch = this.#open;
    this.#open = null;
    this.#after = batch.revision;
    this.#listener.changed(batch);
  }

  #cancelled(reason: string): void {
    this.#stream?.abort();
    // etcd does not say it in a code here; a new token costs little.
    this.#gateway.refuseToken();
    this.#gateway.leaveEndpoint();
    this.#gateway.env.log.warn({ reason }, 'etcd ended a watch; it is begun anew');
    this.#reconnectLater();
  }

  #ended(failure: EtcdFailure): void {
    const { log } = this.#gateway.env;
    const text = `${failure.message}; the watch is begun anew`;
    if (failure.kind === 'in-doubt' || failure.kind === 'unsent') log.debug({}, text);
    else log.warn({}, text);
    this.#reconnectLater();
  }

  #reconnectLater(): void {
    this.#stream = null;
    this.#setTimer(this.#backOff.next(), () => this.#connect());
  }

  #giveUpAfter(ms: number): void {
    this.#setTimer(ms, () => {
      this.#stream?.abort();
      this.#gateway.leaveEndpoint();
      this.#connect();
    });
  }

  #setTimer(ms: number, callback: () => void): void {
    this.#timer?.cancel();
    if (this.#isOver) return;
    this.#timer = this.#gateway.env.timers.after(ms, callback);
  }
}

/** @throws StoreError `E_BAD_FRAME` */
function readMessage(json: EtcdJson, root: string): WatchMessage {
  return {
    compactedAt: json.number('compact_revision'),
    cancelled: json.flag('canceled') ? json.text('cancel_reason') : null,
    isCreated: json.flag('created'),
    isFragment: json.flag('fragment'),
    events: json.list('events').map((event) => {
      const entry = event.object('kv');
      return {
        revision: entry.number('mod_revision'),
        key: entry.bytes('key').toString('latin1').slice(root.length),
        value: event.text('type') === 'DELETE' ? null : entry.bytes('value'),
      };
    }),
  };
}

/** The first key after all that begin with `prefix`, which ends with a byte below 255. */
export function endOfPrefix(prefix: string): string {
  const last = prefix.charCodeAt(prefix.length - 1);
  invariant(last < 0x7f, 'a prefix is printable ASCII');
  return prefix.slice(0, -1) + String.fromCharCode(last + 1);
}

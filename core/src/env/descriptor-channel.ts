/**
 * Messages with descriptors between two processes of this machine: a JSON value, bytes, and up to `DESCRIPTORS_MAX`
 * descriptors each, over a Unix stream socket.
 *
 * Reading is polling: Node cannot wait for a descriptor it did not open, and a blocking read would take a thread from
 * the disk. It costs a millisecond, for the seconds that a hand-over lasts.
 */
import { StoreError } from '../util/errors.js';
import { invariant } from '../util/invariant.js';
import {
  DESCRIPTORS_MAX,
  receiveWithDescriptors,
  sendWithDescriptors,
} from './descriptor-passing.js';
import type { Clock, Timers } from './env.js';
import { closeDescriptor, needSocketCalls, type PeerProcess } from './socket-calls.js';

// Header of a message, big-endian. The first six bytes stay what they are in every version.
const AT_MAGIC = 0; //        4  MAGIC
const AT_VERSION = 4; //      2  of what the messages mean
const AT_DESCRIPTORS = 6; //  2  how many come along
const AT_JSON_BYTES = 8; //   4  of the value that follows, as UTF-8
const AT_BODY_BYTES = 12; //  4  of the bytes that follow it
const HEADER_BYTES = 16;
const MAGIC = 0x68616e64; // hand

const JSON_BYTES_MAX = 1024 * 1024;
const BODY_BYTES_MAX = 64 * 1024 * 1024;
const RECEIVE_BYTES = 256 * 1024;
const POLL_MS = 1;

export interface ChannelMessage {
  readonly value: unknown;
  readonly body: Buffer;
  /** They belong to the receiver; a sender keeps its own. */
  readonly descriptors: readonly number[];
}

export interface ChannelOptions {
  readonly clock: Clock;
  readonly timers: Timers;
  /** Both ends must have the same. */
  readonly version: number;
}

/** What one message may hold. */
export interface MessageLimits {
  readonly jsonBytes: number;
  readonly bodyBytes: number;
  readonly descriptors: number;
}

const LIMITS: MessageLimits = {
  jsonBytes: JSON_BYTES_MAX,
  bodyBytes: BODY_BYTES_MAX,
  descriptors: DESCRIPTORS_MAX,
};
const NOTHING = Buffer.alloc(0);

export class DescriptorChannel {
  readonly #socket: number;
  readonly #options: ChannelOptions;
  readonly #landing: Buffer = Buffer.allocUnsafeSlow(RECEIVE_BYTES);
  #chunks: Buffer[] = [];
  #bytes = 0;
  #descriptors: number[] = [];
  #ended = false;
  #closed = false;

  /** @param socket - A Unix stream socket; the channel's from now on. */
  constructor(socket: number, options: ChannelOptions) {
    this.#socket = socket;
    this.#options = options;
  }

  /**
   * Sends a message. It is with the system when this resolves, and arrives even if this process dies then.
   * @throws StoreError `E_CLOSED` if the peer is gone, `E_TIMEOUT` if it does not read for so long, `E_SYSTEM`
   */
  async send(value: unknown, options: Partial<SendOptions> = {}): Promise<void> {
    const { body = NOTHING, descriptors = [], limitMs = 10_000 } = options;
    invariant(!this.#closed, 'the channel is open');
    const deadline = this.#options.clock.now() + limitMs;
    const json = Buffer.from(JSON.stringify(value));
    invariant(json.length <= JSON_BYTES_MAX && body.length <= BODY_BYTES_MAX, 'a message fits');
    const header = Buffer.alloc(HEADER_BYTES);
    header.writeUInt32BE(MAGIC, AT_MAGIC);
    header.writeUInt16BE(this.#options.version, AT_VERSION);
    header.writeUInt16BE(descriptors.length, AT_DESCRIPTORS);
    header.writeUInt32BE(json.length, AT_JSON_BYTES);
    header.writeUInt32BE(body.length, AT_BODY_BYTES);
    await this.#sendAll(Buffer.concat([header, json]), descriptors, deadline);
    await this.#sendAll(body, [], deadline);
  }

  /**
   * The next message; null: the peer has gone, and everything it sent was received.
   * @param limits - For a peer that is not trusted yet: less than others may send.
   * @throws StoreError `E_TIMEOUT`, `E_FORMAT` if it speaks another version or no sense, `E_SYSTEM`
   */
  async receive(limitMs: number, limits: MessageLimits = LIMITS): Promise<ChannelMessage | null> {
    const { clock, timers } = this.#options;
    const deadline = clock.now() + limitMs;
    for (;;) {
      const message = this.#next(limits);
      if (message !== null) return message;
      if (this.#ended) return null;
      if (this.#poll(limits)) continue;
      if (clock.now() > deadline)
        throw new StoreError('E_TIMEOUT', `The other process said nothing for ${limitMs / 1000} s`);
      await timers.sleep(POLL_MS);
    }
  }

  /** From now on the peer's sends fail; what it sent before can still be received. */
  endReceiving(): void {
    needSocketCalls('A hand-over').endReceiving(this.#socket);
  }

  /** Who is at the other end. */
  get peer(): PeerProcess | null {
    return needSocketCalls('A hand-over').peer(this.#socket);
  }

  /** Closes it, and what arrived and was not asked for. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const descriptor of this.#descriptors) closeDescriptor(descriptor);
    this.#descriptors = [];
    closeDescriptor(this.#socket);
  }

  async #sendAll(bytes: Buffer, descriptors: readonly number[], deadline: number): Promise<void> {
    const { clock, timers } = this.#options;
    let rest = bytes;
    let along = descriptors;
    while (rest.length > 0) {
      const sent = sendWithDescriptors(this.#socket, rest, along);
      if (sent === null) {
        if (clock.now() > deadline)
          throw new StoreError('E_TIMEOUT', 'The other process does not read what it is sent');
        await timers.sleep(POLL_MS);
        continue;
      }
      rest = rest.subarray(sent);
      along = [];
    }
  }

  /** Takes what is there. @returns False if that is nothing */
  #poll(limits: MessageLimits): boolean {
    const { bytes, descriptors } = receiveWithDescriptors(this.#socket, this.#landing);
    if (bytes === null) return false;
    this.#descriptors.push(...descriptors);
    // The end of one message and the beginning of the next arrive together at most.
    if (this.#descriptors.length > 2 * limits.descriptors)
      throw new StoreError('E_FORMAT', 'The other process sends more descriptors than it may');
    if (bytes === 0) this.#ended = true;
    else {
      this.#chunks.push(Buffer.from(this.#landing.subarray(0, bytes)));
      this.#bytes += bytes;
    }
    return true;
  }

  /** The next message, if it has arrived as a whole. */
  #next(limits: MessageLimits): ChannelMessage | null {
    if (this.#bytes < HEADER_BYTES) return null;
    const header = this.#peek(HEADER_BYTES);
    if (header.readUInt32BE(AT_MAGIC) !== MAGIC)
      throw new StoreError('E_FORMAT', 'The other process speaks another protocol');
    const version = header.readUInt16BE(AT_VERSION);
    if (version !== this.#options.version)
      throw new StoreError(
        'E_FORMAT',
        `The other process speaks version ${version} of the hand-over, this one ${this.#options.version}`,
      );
    const count = header.readUInt16BE(AT_DESCRIPTORS);
    const jsonBytes = header.readUInt32BE(AT_JSON_BYTES);
    const bodyBytes = header.readUInt32BE(AT_BODY_BYTES);
    if (count > limits.descriptors || jsonBytes > limits.jsonBytes || bodyBytes > limits.bodyBytes)
      throw new StoreError('E_FORMAT', 'The other process announces a message that is too long');
    const bytes = HEADER_BYTES + jsonBytes + bodyBytes;
    if (this.#bytes < bytes) return null;
    if (this.#descriptors.length < count)
      throw new StoreError('E_FORMAT', 'Descriptors were lost on their way');
    const all = this.#take(bytes);
    return {
      value: parse(all.toString('utf8', HEADER_BYTES, HEADER_BYTES + jsonBytes)),
      body: all.subarray(HEADER_BYTES + jsonBytes),
      descriptors: this.#descriptors.splice(0, count),
    };
  }

  #peek(bytes: number): Buffer {
    const first = this.#chunks[0] ?? NOTHING;
    return first.length >= bytes ? first : this.#joined();
  }

  #take(bytes: number): Buffer {
    const all = this.#joined();
    const rest = all.subarray(bytes);
    this.#chunks = rest.length > 0 ? [rest] : [];
    this.#bytes = rest.length;
    return all.subarray(0, bytes);
  }

  #joined(): Buffer {
    const all = this.#chunks.length === 1 ? this.#chunks[0] : undefined;
    if (all !== undefined) return all;
    const joined = Buffer.concat(this.#chunks);
    this.#chunks = [joined];
    return joined;
  }
}

/** What goes along with a message. */
export interface SendOptions {
  readonly body: Buffer;
  readonly descriptors: readonly number[];
  /** How long the peer may take to read. */
  readonly limitMs: number;
}

function parse(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch (error) {
    throw new StoreError('E_FORMAT', 'The other process sent a message that is no JSON', {
      cause: error,
    });
  }
}

/**
 * One of the two connections of a link: a greeting and its answer, then messages both ways, in order.
 *
 * Nothing is read behind the greeting before `open`. What waits for the disk is bounded: of a `data` connection no more is
 * read while changes of more than `WINDOW_BYTES` are under way, so that the other end feels it through its full socket.
 * What arrives makes this fail, never throw.
 */
import {
  FrameReader,
  invariant,
  messageOf,
  StoreError,
  type BufferPool,
  type Connection,
  type DirectConnection,
  type FrameHeader,
} from '@store/core';
import type { PeerMessage } from '../replication/peer-message.js';
import { decodePeerMessage, PeerEncoder } from './peer-codec.js';
import { checkMeetFrame } from './peer-greeting.js';
import { checkPeerFrame, checkVersion, PEER, type Channel } from './peer-ops.js';

/** Bytes of changes that were received and are not made. */
export const WINDOW_BYTES: number = 32 * 1024 * 1024;
/** What a change takes beside its bytes. */
const CHANGE_COST_BYTES = 512;
/** Bytes that the other end has not taken: what is said over `control` is small, and changes are bounded by who asks. */
const UNSENT_BYTES_MAX = { control: 4 * 1024 * 1024, data: 512 * 1024 * 1024 } as const;

/** What came with a message and is to be given back. */
export interface Held {
  /** Of the window. */
  readonly cost: number;
  /** To be used again when nobody needs the message; null: it is the message's own. */
  readonly buffer: Buffer | null;
}

export interface PeerConnectionEvents {
  /** What the other end says first. Nothing more is read until `open`. */
  met(header: FrameHeader, body: Buffer): void;
  received(message: PeerMessage, held: Held): void;
  pulse(body: Buffer): void;
  /** It is over. Called once, and nothing after it. */
  closed(error: StoreError): void;
  defect(error: unknown): void;
}

export class PeerConnection {
  /** All that ever came, and was ever written: the same numbers at both ends when nothing is on its way. */
  receivedBytes = 0;
  writtenBytes = 0;
  readonly #connection: Connection;
  readonly #buffers: BufferPool;
  readonly #reader: FrameReader;
  readonly #encoder = new PeerEncoder();
  #events: PeerConnectionEvents;
  /** Null: before `open`. */
  #channel: Channel | null = null;
  #isMet = false;
  #heldBytes = 0;
  #isStalled = false;
  #isPaused = false;
  #isPumping = false;
  #landing: Buffer | null = null;
  #isFlushing = false;
  #failure: StoreError | null = null;

  /** @param role - Who dials speaks first. */
  constructor(
    connection: Connection,
    role: 'dials' | 'answers',
    buffers: BufferPool,
    events: PeerConnectionEvents,
  ) {
    this.#connection = connection;
    this.#buffers = buffers;
    this.#events = events;
    this.#reader = new FrameReader({
      admit: (header) => this.#admit(header, role),
      target: (header) => this.#targetFor(header),
    });
    connection.start({
      data: (chunk) => this.#receive(chunk),
      end: () => this.fail(gone(this.peer, null)),
      drain: () => undefined,
      closed: (error) => this.fail(gone(this.peer, error)),
    });
  }

  /** Address of the other end. */
  get peer(): string {
    return this.#connection.peer;
  }

  get isOpen(): boolean {
    return this.#failure === null;
  }

  /** Something that was sent has not left this process. */
  get hasUnsent(): boolean {
    return this.#encoder.bytes > 0 || this.#connection.unsentBytes > 0;
  }

  /** The disk is behind: nothing is read. */
  get isStalled(): boolean {
    return this.#isStalled;
  }

  /** Bytes of changes that are not made. */
  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** From now on `events` are told; then what comes is read on. */
  open(channel: Channel, events: PeerConnectionEvents): void {
    invariant(this.#channel === null, 'a connection is opened once');
    this.#channel = channel;
    this.#events = events;
    this.#pump();
  }

  /** Writes a frame of the greeting. */
  write(frame: Buffer): void {
    if (this.#failure !== null) return;
    this.writtenBytes += frame.length;
    this.#connection.write([frame]);
  }

  /** Sends a message, with what else is sent in this turn. */
  send(message: PeerMessage): void {
    this.#encoder.add(message);
    this.#flushLater();
  }

  pulse(body: Buffer): void {
    this.#encoder.addRaw(PEER.pulse, body, []);
    this.#flushLater();
  }

  /** What a message took of the window is free again. Reads on later, never from within. */
  free(bytes: number): void {
    this.#heldBytes -= bytes;
    invariant(this.#heldBytes >= 0, 'no more is given back than was taken');
    if (this.#isStalled) queueMicrotask(() => this.#pump());
  }

  /** Sends what was written, then closes: the last words of a greeting. `destroy` it if the other end does not go. */
  end(error: StoreError): void {
    this.#over(error, () => this.#connection.end());
  }

  destroy(): void {
    this.#connection.destroy();
  }

  /** It is over, at once. */
  fail(error: StoreError): void {
    this.#over(error, () => this.#connection.destroy());
  }

  #over(error: StoreError, close: () => void): void {
    if (this.#failure !== null) return;
    this.#failure = error;
    // Node tells the end of a socket that nobody reads only when it is read again.
    this.#resume();
    close();
    this.#events.closed(error);
  }

  #admit(header: FrameHeader, role: 'dials' | 'answers'): boolean {
    const channel = this.#channel;
    if (channel === null) {
      checkMeetFrame(header, role === 'dials');
      // Versions of greetings are agreed on in them; but an answer is of the one that was chosen.
      if (role === 'dials') checkVersion(header);
      return true;
    }
    checkPeerFrame(header, channel);
    const cost = header.op === PEER.prepare ? header.payloadBytes + CHANGE_COST_BYTES : 0;
    this.#isStalled = this.#heldBytes > 0 && this.#heldBytes + cost > WINDOW_BYTES;
    return !this.#isStalled;
  }

  /** What is kept of a message is its payload, and not the chunk that it came in. */
  #targetFor({ op, payloadBytes }: FrameHeader): Buffer {
    this.#landing =
      op === PEER.prepare ? this.#buffers.take(payloadBytes) : Buffer.allocUnsafeSlow(payloadBytes);
    return this.#landing.subarray(0, payloadBytes);
  }

  #receive(chunk: Buffer): boolean {
    if (this.#failure !== null) return true;
    this.receivedBytes += chunk.length;
    this.#reader.push(chunk);
    this.#pump();
    const { direct } = this.#reader;
    if (direct !== null && 'receiveInto' in this.#connection)
      (this.#connection as DirectConnection).receiveInto(direct); // that it has the method was just seen
    return !this.#reader.holds;
  }

  #pump(): void {
    if (this.#isPumping || this.#failure !== null) return;
    this.#isPumping = true;
    try {
      while (this.#mayRead() && this.#reader.next()) this.#take();
    } catch (error) {
      if (!(error instanceof StoreError)) this.#events.defect(error);
      this.fail(error instanceof StoreError ? error : new StoreError('E_SYSTEM', messageOf(error)));
    }
    this.#isPumping = false;
    this.#pauseOrResume();
  }

  #mayRead(): boolean {
    return this.#failure === null && (this.#channel !== null || !this.#isMet);
  }

  #pauseOrResume(): void {
    if (this.#failure !== null) return;
    const isWaiting = this.#channel === null && this.#isMet && this.#reader.holds;
    if (!this.#isStalled && !isWaiting) this.#resume();
    else if (!this.#isPaused) {
      this.#isPaused = true;
      this.#connection.pause();
    }
  }

  #resume(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    this.#connection.resume();
  }

  /** The frame that the reader has found. */
  #take(): void {
    const { header, body } = this.#reader;
    if (this.#channel === null) {
      this.#isMet = true;
      this.#events.met(header, Buffer.from(body));
      return;
    }
    if (header.op === PEER.pulse) {
      this.#events.pulse(body);
      return;
    }
    const buffer = this.#landing;
    this.#landing = null;
    const bytes = header.payloadBytes;
    const payload = buffer === null ? NO_PARTS : [buffer.subarray(0, bytes)];
    const message = decodePeerMessage(header.op, body, payload);
    if (message.type !== 'prepare') {
      this.#deliver(message, NOT_HELD);
      return;
    }
    const cost = bytes + CHANGE_COST_BYTES;
    this.#heldBytes += cost;
    // Content may be kept by whoever stores it; blocks are on their way to the disk, and not needed when that is over.
    const isReusable = message.change.op === 'write';
    this.#deliver(message, { cost, buffer: isReusable ? buffer : null });
  }

  /** What the receiver throws is a defect, whatever it is: what the other end did wrong was found before. */
  #deliver(message: PeerMessage, held: Held): void {
    try {
      this.#events.received(message, held);
    } catch (error) {
      this.#events.defect(error);
      this.fail(new StoreError('E_SYSTEM', messageOf(error)));
    }
  }

  #flushLater(): void {
    if (this.#isFlushing) return;
    this.#isFlushing = true;
    queueMicrotask(() => {
      this.#isFlushing = false;
      this.#flush();
    });
  }

  #flush(): void {
    const bytes = this.#encoder.bytes;
    const parts = this.#encoder.take();
    if (this.#failure !== null) return;
    this.writtenBytes += bytes;
    this.#connection.write(parts);
    if (this.#connection.unsentBytes > UNSENT_BYTES_MAX[this.#channel ?? 'control'])
      this.fail(new StoreError('E_TIMEOUT', `${this.peer} does not read what it is sent`));
  }
}

const NOT_HELD: Held = { cost: 0, buffer: null };
const NO_PARTS: readonly Buffer[] = [];

function gone(peer: string, error: Error | null): StoreError {
  const why = error === null ? '' : `: ${error.message}`;
  return new StoreError('E_UNREACHABLE', `${peer} closed the connection${why}`, { cause: error });
}

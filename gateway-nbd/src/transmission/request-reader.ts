/**
 * Cuts the byte stream of one client into requests. A header is decoded where it lies, into fields that the next
 * one overwrites, so that nothing is allocated for it; a payload is handed on as slices of the chunks it came in,
 * never copied together.
 *
 * The sink decides at each header what comes next. If it says `wait`, nothing more is read until `resume`: the rest
 * of the chunk stays here and the owner pauses the socket.
 */
import { invariant, putU16be, putU32be, u16be, u32be } from '@store/core';
import type { HeaderKind } from '../handshake/negotiated.js';
import { NBD_CMD, NBD_CMD_FLAG, NBD_MAGIC } from '../protocol/constants.js';

// Request, big-endian. Compact and extended ones differ in their length only.
const AT_MAGIC = 0; //        4  NBD_MAGIC.REQUEST or EXTENDED_REQUEST
const AT_FLAGS = 4; //        2  NBD_CMD_FLAG
const AT_TYPE = 6; //         2  NBD_CMD
const AT_COOKIE_HIGH = 8; //  4  the cookie is opaque, two halves are enough
const AT_COOKIE_LOW = 12; //  4
const AT_OFFSET = 16; //      8
const AT_LENGTH = 24; //      4, extended 8; a payload follows a WRITE, extended: whatever has PAYLOAD_LEN
const COMPACT_HEADER_BYTES = 28;
const EXTENDED_HEADER_BYTES = 32;
export const HEADER_BYTES_MAX: number = EXTENDED_HEADER_BYTES;

/** A payload with this much missing gets a buffer of its own, if the connection can fill it directly. */
const DIRECT_BYTES_MIN = 64 * 1024;

/** What follows a header: the next one, a payload to collect or to skip; or it has to be asked about again. */
export type AfterHeader = 'next' | 'payload' | 'skip' | 'wait' | 'stop';

export interface RequestSink {
  /** A header was decoded into the reader's fields. Called again after `resume` if it said `wait`. */
  begin(): AfterHeader;
  /** The payload of the request is complete. */
  payload(parts: Buffer[]): void;
  /** The payload of the request was skipped. */
  skipped(): void;
  /** The client is out of step. */
  desync(reason: string): void;
  /** Lets the next `bytes` land in one piece of memory of their own, if that is possible. */
  receiveDirectly(bytes: number): void;
}

type State = 'header' | 'waiting' | 'payload' | 'skip' | 'stopped';

export class RequestReader {
  type = 0;
  flags = 0;
  cookieHigh = 0;
  cookieLow = 0;
  offsetHigh = 0;
  offsetLow = 0;
  /** Exact up to 2^53; larger ones are rounded and far beyond the end of any export. */
  offset = 0;
  /** As `offset`. */
  length = 0;
  #lengthHigh = 0;
  #lengthLow = 0;

  readonly #sink: RequestSink;
  readonly #isExtended: boolean;
  readonly #magic: number;
  /** Size of a request without its payload. */
  readonly headerBytes: number;
  #state: State = 'header';
  readonly #partial: Buffer;
  #partialBytes = 0;
  #parts: Buffer[] = [];
  #missingBytes = 0;
  #stash: Buffer[] = [];
  /** The sink was told to receive the rest of the present payload directly. */
  #isDirect = false;

  constructor(sink: RequestSink, headers: HeaderKind) {
    this.#sink = sink;
    this.#isExtended = headers === 'extended';
    this.#magic = this.#isExtended ? NBD_MAGIC.EXTENDED_REQUEST : NBD_MAGIC.REQUEST;
    this.headerBytes = this.#isExtended ? EXTENDED_HEADER_BYTES : COMPACT_HEADER_BYTES;
    this.#partial = Buffer.allocUnsafeSlow(this.headerBytes);
  }

  /** The present request announces a payload. */
  get hasPayload(): boolean {
    if (this.length === 0) return false;
    return this.#isExtended
      ? (this.flags & NBD_CMD_FLAG.PAYLOAD_LEN) !== 0
      : this.type === NBD_CMD.WRITE;
  }

  /** The owner must not read on before `resume`. */
  get isWaiting(): boolean {
    return this.#state === 'waiting';
  }

  /** A request has begun whose rest has not arrived. */
  get isMidRequest(): boolean {
    return this.#state === 'payload' || this.#state === 'skip' || this.#partialBytes > 0;
  }

  /** Parts of chunks are kept for later. */
  get holdsChunks(): boolean {
    return this.#parts.length > 0 || this.#stash.length > 0;
  }

  receive(chunk: Buffer): void {
    if (this.#state === 'waiting') this.#stash.push(chunk);
    else this.#consume(chunk);
  }

  /** Asks again about the request that had to wait, and goes on if it may. */
  resume(): void {
    invariant(this.#state === 'waiting', 'a request waits');
    this.#state = 'header';
    this.#decide();
    while (!this.isWaiting) {
      const chunk = this.#stash.shift();
      if (chunk === undefined) return;
      this.#consume(chunk);
    }
  }

  /**
   * What was received of requests that have not run, from the header of the first of them on: a reader in the state
   * of a new connection that receives these bytes is where this one is.
   */
  leftover(): Buffer {
    const begun: Buffer[] = [];
    if (this.#state === 'header') begun.push(this.#partial.subarray(0, this.#partialBytes));
    else if (this.#state !== 'stopped') begun.push(this.#encodeHeader());
    if (this.#state === 'payload') begun.push(...this.#parts);
    if (this.#state === 'skip') begun.push(Buffer.alloc(this.length - this.#missingBytes));
    return Buffer.concat([...begun, ...this.#stash]);
  }

  /** Ignores everything from now on. */
  stop(): void {
    this.#state = 'stopped';
    this.#stash = [];
    this.#parts = [];
    this.#partialBytes = 0;
    this.#missingBytes = 0;
  }

  #consume(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length) {
      switch (this.#state) {
        case 'header':
          at = this.#takeHeader(chunk, at);
          break;
        case 'payload':
          at = this.#takePayload(chunk, at);
          break;
        case 'skip':
          at = this.#skipPayload(chunk, at);
          break;
        case 'waiting':
          this.#stash.unshift(chunk.subarray(at));
          return;
        case 'stopped':
          return;
      }
    }
    if (this.#state === 'payload' && !this.#isDirect && this.#missingBytes >= DIRECT_BYTES_MIN) {
      this.#isDirect = true;
      this.#sink.receiveDirectly(this.#missingBytes);
    }
  }

  #takeHeader(chunk: Buffer, at: number): number {
    if (this.#partialBytes === 0 && chunk.length - at >= this.headerBytes) {
      this.#decode(chunk, at);
      return at + this.headerBytes;
    }
    const taken = chunk.copy(this.#partial, this.#partialBytes, at);
    this.#partialBytes += taken;
    if (this.#partialBytes === this.headerBytes) {
      this.#partialBytes = 0;
      this.#decode(this.#partial, 0);
    }
    return at + taken;
  }

  #decode(from: Buffer, at: number): void {
    const magic = u32be(from, at + AT_MAGIC);
    if (magic !== this.#magic) {
      this.stop();
      this.#sink.desync(`A request begins with 0x${magic.toString(16)}`);
      return;
    }
    this.flags = u16be(from, at + AT_FLAGS);
    this.type = u16be(from, at + AT_TYPE);
    this.cookieHigh = u32be(from, at + AT_COOKIE_HIGH);
    this.cookieLow = u32be(from, at + AT_COOKIE_LOW);
    this.offsetHigh = u32be(from, at + AT_OFFSET);
    this.offsetLow = u32be(from, at + AT_OFFSET + 4);
    this.offset = this.offsetHigh * 2 ** 32 + this.offsetLow;
    const length = u32be(from, at + AT_LENGTH);
    this.#lengthHigh = this.#isExtended ? length : 0;
    this.#lengthLow = this.#isExtended ? u32be(from, at + AT_LENGTH + 4) : length;
    this.length = this.#lengthHigh * 2 ** 32 + this.#lengthLow;
    this.#decide();
  }

  #decide(): void {
    switch (this.#sink.begin()) {
      case 'next':
        break;
      case 'wait':
        this.#state = 'waiting';
        break;
      case 'payload':
        this.#state = 'payload';
        this.#missingBytes = this.length;
        break;
      case 'skip':
        this.#state = 'skip';
        this.#missingBytes = this.length;
        break;
      case 'stop':
        this.stop();
        break;
    }
  }

  #takePayload(chunk: Buffer, at: number): number {
    const end = Math.min(chunk.length, at + this.#missingBytes);
    this.#addPart(at === 0 && end === chunk.length ? chunk : chunk.subarray(at, end));
    this.#missingBytes -= end - at;
    if (this.#missingBytes === 0) {
      const parts = this.#parts;
      this.#parts = [];
      this.#isDirect = false;
      this.#state = 'header';
      this.#sink.payload(parts);
    }
    return end;
  }

  /** Neighbours in memory become one part. */
  #addPart(part: Buffer): void {
    const last = this.#parts.at(-1);
    if (last?.buffer === part.buffer && last.byteOffset + last.length === part.byteOffset)
      this.#parts[this.#parts.length - 1] = Buffer.from(
        part.buffer,
        last.byteOffset,
        last.length + part.length,
      );
    else this.#parts.push(part);
  }

  #skipPayload(chunk: Buffer, at: number): number {
    const end = Math.min(chunk.length, at + this.#missingBytes);
    this.#missingBytes -= end - at;
    if (this.#missingBytes === 0) {
      this.#state = 'header';
      this.#sink.skipped();
    }
    return end;
  }

  #encodeHeader(): Buffer {
    const out = Buffer.alloc(this.headerBytes);
    putU32be(out, this.#magic, AT_MAGIC);
    putU16be(out, this.flags, AT_FLAGS);
    putU16be(out, this.type, AT_TYPE);
    putU32be(out, this.cookieHigh, AT_COOKIE_HIGH);
    putU32be(out, this.cookieLow, AT_COOKIE_LOW);
    putU32be(out, this.offsetHigh, AT_OFFSET);
    putU32be(out, this.offsetLow, AT_OFFSET + 4);
    if (this.#isExtended) putU32be(out, this.#lengthHigh, AT_LENGTH);
    putU32be(out, this.#lengthLow, this.headerBytes - 4);
    return out;
  }
}

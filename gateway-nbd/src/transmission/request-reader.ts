/**
 * Cuts the byte stream of one client into requests. A header is decoded where it lies, into fields that the next
 * one overwrites, so that nothing is allocated for it; a payload is handed on as slices of the chunks it came in,
 * never copied together.
 *
 * The sink decides at each header what comes next. If it says `wait`, nothing more is read until `resume`: the rest
 * of the chunk stays here and the owner pauses the socket.
 */
import { invariant } from '@store/core';
import { NBD_MAGIC } from '../protocol/constants.js';

// Compact request, big-endian.
const AT_MAGIC = 0; //        4  NBD_MAGIC.REQUEST
const AT_FLAGS = 4; //        2  NBD_CMD_FLAG
const AT_TYPE = 6; //         2  NBD_CMD
const AT_COOKIE_HIGH = 8; //  4  the cookie is opaque, two halves are enough
const AT_COOKIE_LOW = 12; //  4
const AT_OFFSET = 16; //      8
const AT_LENGTH = 24; //      4  payload follows a WRITE only
export const REQUEST_HEADER_BYTES = 28;

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
  /** Exact up to 2^53; larger ones are rounded and far beyond the end of any export. */
  offset = 0;
  length = 0;

  readonly #sink: RequestSink;
  #state: State = 'header';
  readonly #partial: Buffer = Buffer.allocUnsafeSlow(REQUEST_HEADER_BYTES);
  #partialBytes = 0;
  #parts: Buffer[] = [];
  #missingBytes = 0;
  #stash: Buffer[] = [];
  /** The sink was told to receive the rest of the present payload directly. */
  #isDirect = false;

  constructor(sink: RequestSink) {
    this.#sink = sink;
  }

  /** The owner must not read on before `resume`. */
  get isWaiting(): boolean {
    return this.#state === 'waiting';
  }

  /** A request has begun whose rest has not arrived. */
  get isMidRequest(): boolean {
    return this.#state === 'payload' || this.#state === 'skip' || this.#partialBytes > 0;
  }

  /** Payload bytes of the present request that are still to come. */
  get missingBytes(): number {
    return this.#missingBytes;
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
    if (this.#partialBytes === 0 && chunk.length - at >= REQUEST_HEADER_BYTES) {
      this.#decode(chunk, at);
      return at + REQUEST_HEADER_BYTES;
    }
    const taken = chunk.copy(this.#partial, this.#partialBytes, at);
    this.#partialBytes += taken;
    if (this.#partialBytes === REQUEST_HEADER_BYTES) {
      this.#partialBytes = 0;
      this.#decode(this.#partial, 0);
    }
    return at + taken;
  }

  #decode(from: Buffer, at: number): void {
    const magic = from.readUInt32BE(at + AT_MAGIC);
    if (magic !== NBD_MAGIC.REQUEST) {
      this.stop();
      this.#sink.desync(`A request begins with 0x${magic.toString(16)}`);
      return;
    }
    this.flags = from.readUInt16BE(at + AT_FLAGS);
    this.type = from.readUInt16BE(at + AT_TYPE);
    this.cookieHigh = from.readUInt32BE(at + AT_COOKIE_HIGH);
    this.cookieLow = from.readUInt32BE(at + AT_COOKIE_LOW);
    this.offset =
      from.readUInt32BE(at + AT_OFFSET) * 2 ** 32 + from.readUInt32BE(at + AT_OFFSET + 4);
    this.length = from.readUInt32BE(at + AT_LENGTH);
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
}

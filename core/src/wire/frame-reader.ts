/**
 * Finds frames in a stream of bytes, however it is cut. A frame is handed out when its header and body are checked and
 * its payload is there; nothing is allocated before the lengths are checked. Payload is not copied together: it is a
 * list of slices of what arrived, or lies in a buffer that the owner named for it.
 *
 *     reader.push(chunk);
 *     while (reader.next()) use(reader.header, reader.body, reader.payload);
 *
 * Sans-I/O: knows neither sockets nor what the frames mean. After it has thrown, the stream is lost.
 */
import { invariant } from '../util/invariant.js';
import {
  checkBody,
  emptyHeader,
  HEADER_BYTES,
  readHeader,
  type FrameHeader,
} from './frame-header.js';

export interface FrameRules {
  /**
   * Whether the rest of this frame may be taken in now; if not, `next` finds nothing and asks again when it is called
   * again. Refuses a frame by its header, above all for its lengths.
   * @throws StoreError `E_BAD_FRAME`
   */
  admit(header: FrameHeader): boolean;
  /**
   * Where the payload of this frame shall land, exactly as long as it is; null: in slices of what arrives. Asked once
   * for each frame that has one.
   */
  target(header: FrameHeader, body: Buffer): Buffer | null;
}

const NOTHING = Buffer.alloc(0);
const NO_PARTS: readonly Buffer[] = [];
/** From so many bytes on it pays to let the rest of a payload land in its place. */
const DIRECT_BYTES_MIN = 16 * 1024;

export class FrameReader {
  /** Of the last frame that `next` found; used again for the next one. */
  readonly header: FrameHeader = emptyHeader();
  /** Of that frame; a slice of what arrived, good until the next `push`. */
  body: Buffer = NOTHING;
  /** Of that frame; empty if it landed in the owner's buffer. */
  payload: readonly Buffer[] = NO_PARTS;
  readonly #rules: FrameRules;
  readonly #chunks: Buffer[] = [];
  /** In the first chunk. */
  #at = 0;
  /** Header and body of a frame that came in pieces; null: none is begun. */
  #pieces: Buffer | null = null;
  #piecesBytes = 0;
  #isAdmitted = false;
  /** Header and body are there, the payload is not. */
  #inPayload = false;
  #target: Buffer | null = null;
  #payloadAt = 0;
  #parts: Buffer[] = [];

  constructor(rules: FrameRules) {
    this.#rules = rules;
  }

  /** Bytes that arrived; they are the reader's until `holds` says that nothing of them is. */
  push(chunk: Buffer): void {
    if (chunk.length > 0) this.#chunks.push(chunk);
  }

  /** True if it keeps slices of what was pushed, beside what it has handed out. */
  get holds(): boolean {
    return this.#chunks.length > 0 || this.#parts.length > 0;
  }

  /** In the middle of a frame. */
  get isInFrame(): boolean {
    return this.#inPayload || this.#piecesBytes > 0 || this.#chunks.length > 0;
  }

  /**
   * Where the next bytes of the stream belong, if it pays to let them land there; else null. That is the rest of a long
   * payload; or, after a frame with one, room for the header and body of the next, which is probably alike: so that its
   * payload does not begin to arrive before its place is known.
   */
  get direct(): Buffer | null {
    if (this.#chunks.length > 0) return null;
    const target = this.#target;
    if (target !== null)
      return target.length - this.#payloadAt < DIRECT_BYTES_MIN
        ? null
        : target.subarray(this.#payloadAt);
    const { bodyBytes, payloadBytes } = this.header;
    // Never used again: a short payload that lands there is somebody's for as long as they want.
    return this.isInFrame || payloadBytes < DIRECT_BYTES_MIN
      ? null
      : Buffer.allocUnsafe(HEADER_BYTES + bodyBytes);
  }

  /** True if the rest of the frame under way lands in `target`: nobody else may use it yet. */
  isFilling(target: Buffer): boolean {
    return this.#target === target;
  }

  /** @returns true if there is a whole frame. @throws StoreError `E_BAD_FRAME`, or what `check` throws */
  next(): boolean {
    if (!this.#inPayload && !this.#nextHead()) return false;
    return this.#takePayload();
  }

  /** Header and body. */
  #nextHead(): boolean {
    const [chunk] = this.#chunks;
    if (chunk === undefined && this.#piecesBytes === 0) return false;
    const { header } = this;
    const start = this.#at;
    if (chunk !== undefined && this.#piecesBytes === 0 && chunk.length - start >= HEADER_BYTES) {
      if (!this.#admit(chunk, start)) return false;
      const end = start + HEADER_BYTES + header.bodyBytes;
      if (end <= chunk.length) {
        this.#begin(chunk, start + HEADER_BYTES, end);
        this.#consumed(end - start);
        return true;
      }
    }
    return this.#nextPieces();
  }

  /** As `#nextHead`, of a frame whose header or body goes over the end of a chunk. */
  #nextPieces(): boolean {
    const { header } = this;
    if (this.#pieces === null) this.#pieces = Buffer.allocUnsafe(HEADER_BYTES);
    if (this.#piecesBytes < HEADER_BYTES && !this.#gather(HEADER_BYTES)) return false;
    if (!this.#admit(this.#pieces, 0)) return false;
    const end = HEADER_BYTES + header.bodyBytes;
    if (this.#pieces.length < end) {
      const whole = Buffer.allocUnsafe(end);
      this.#pieces.copy(whole, 0, 0, HEADER_BYTES);
      this.#pieces = whole;
    }
    if (!this.#gather(end)) return false;
    this.#begin(this.#pieces, HEADER_BYTES, end);
    this.#pieces = null;
    this.#piecesBytes = 0;
    return true;
  }

  #admit(bytes: Buffer, at: number): boolean {
    if (this.#isAdmitted) return true;
    readHeader(bytes, at, this.header);
    this.#isAdmitted = this.#rules.admit(this.header);
    return this.#isAdmitted;
  }

  /** Copies until `#pieces` holds `bytes`. */
  #gather(bytes: number): boolean {
    const pieces = this.#pieces;
    invariant(pieces !== null, 'pieces have a place');
    while (this.#piecesBytes < bytes) {
      const [chunk] = this.#chunks;
      if (chunk === undefined) return false;
      const end = Math.min(chunk.length, this.#at + bytes - this.#piecesBytes);
      const count = chunk.copy(pieces, this.#piecesBytes, this.#at, end);
      this.#piecesBytes += count;
      this.#consumed(count);
    }
    return true;
  }

  #begin(bytes: Buffer, start: number, end: number): void {
    const { header } = this;
    this.#isAdmitted = false;
    checkBody(bytes, start, end, header);
    this.body = start === end ? NOTHING : bytes.subarray(start, end);
    this.#parts = [];
    this.#payloadAt = 0;
    this.#inPayload = true;
    const { payloadBytes } = header;
    this.#target = payloadBytes === 0 ? null : this.#rules.target(header, this.body);
    invariant(
      this.#target === null || this.#target.length === payloadBytes,
      'a payload fits its target',
    );
    // The body must outlive its chunk while the payload comes.
    if (payloadBytes > 0 && this.#payloadIsShort(bytes, end)) this.body = Buffer.from(this.body);
  }

  #payloadIsShort(bytes: Buffer, end: number): boolean {
    return bytes !== this.#chunks[0] || bytes.length - end < this.header.payloadBytes;
  }

  #takePayload(): boolean {
    const { payloadBytes } = this.header;
    while (this.#payloadAt < payloadBytes) {
      const [chunk] = this.#chunks;
      if (chunk === undefined) return false;
      const end = Math.min(chunk.length, this.#at + payloadBytes - this.#payloadAt);
      const count = end - this.#at;
      if (this.#target === null) this.#parts.push(chunk.subarray(this.#at, end));
      else this.#land(this.#target, chunk, end);
      this.#payloadAt += count;
      this.#consumed(count);
    }
    this.payload = this.#parts.length === 0 ? NO_PARTS : this.#parts;
    this.#parts = [];
    this.#target = null;
    this.#inPayload = false;
    return true;
  }

  /** What has landed in its place already is not copied. */
  #land(target: Buffer, chunk: Buffer, end: number): void {
    const isThere =
      chunk.buffer === target.buffer &&
      chunk.byteOffset + this.#at === target.byteOffset + this.#payloadAt;
    if (!isThere) chunk.copy(target, this.#payloadAt, this.#at, end);
  }

  #consumed(bytes: number): void {
    this.#at += bytes;
    if (this.#at < (this.#chunks[0]?.length ?? 0)) return;
    this.#chunks.shift();
    this.#at = 0;
  }
}

/** Makes frames of requests. Headers and bodies are cut from slabs, payloads stay where they are. */
import { HEADER_BYTES, writeRequestHeader } from '../wire/frame-header.js';
import { objectRequestBytes, writeChecks, writeObjectRequest } from '../wire/object-request.js';
import type { ClientRequest } from './client-request.js';

const SLAB_BYTES = 64 * 1024;

export class RequestEncoder {
  #slab: Buffer = Buffer.alloc(0);
  #at = 0;
  #runStart = 0;
  #parts: Buffer[] = [];
  #bytes = 0;

  /** Bytes that wait for `take`. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Appends the frame of a request. @param floor - The oldest id without an answer. */
  add(request: ClientRequest, floor: number): void {
    const { ref, parts, payloadBytes } = request;
    const pool = request.pool?.handle ?? 0;
    const whole = ref === null ? (request.body?.(pool) ?? null) : null;
    const bodyBytes =
      ref === null ? (whole?.length ?? 0) : objectRequestBytes(ref) + request.checks.length * 4;
    const at = this.#room(HEADER_BYTES + bodyBytes);
    const bodyAt = at + HEADER_BYTES;
    if (ref !== null) {
      const { flags, offset, bytes, extra, checks } = request;
      const end = writeObjectRequest(this.#slab, bodyAt, pool, ref, flags, offset, bytes, extra);
      writeChecks(this.#slab, end, checks);
    } else whole?.copy(this.#slab, bodyAt);
    const { op, id, epoch } = request;
    writeRequestHeader(this.#slab, at, op, id, floor, bodyBytes, payloadBytes, epoch);
    this.#bytes += HEADER_BYTES + bodyBytes + payloadBytes;
    if (payloadBytes === 0) return;
    this.#endRun();
    for (const part of parts) this.#parts.push(part);
  }

  /** Everything that was added, in order; slices that are the taker's until they are sent. */
  take(): Buffer[] {
    this.#endRun();
    const parts = this.#parts;
    this.#parts = [];
    this.#bytes = 0;
    return parts;
  }

  #room(bytes: number): number {
    if (this.#slab.length - this.#at < bytes) {
      this.#endRun();
      this.#slab = Buffer.allocUnsafeSlow(Math.max(SLAB_BYTES, bytes));
      this.#at = 0;
      this.#runStart = 0;
    }
    const at = this.#at;
    this.#at += bytes;
    return at;
  }

  #endRun(): void {
    if (this.#at > this.#runStart) this.#parts.push(this.#slab.subarray(this.#runStart, this.#at));
    this.#runStart = this.#at;
  }
}

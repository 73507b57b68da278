/**
 * Bytes of the protocol as a test expects or sends them, written down from the specification and not with the
 * server's own encoders.
 */

/** The numbers one after the other, big-endian: `[value, bytes]`. */
export function fields(...values: readonly (readonly [number | bigint, 1 | 2 | 4 | 8])[]): Buffer {
  const hex = values.map(([value, bytes]) =>
    BigInt(value)
      .toString(16)
      .padStart(2 * bytes, '0'),
  );
  return Buffer.from(hex.join(''), 'hex');
}

/** A reply to an option. */
export function optionReply(option: number, type: number, data: Buffer | string = ''): Buffer {
  const payload = Buffer.from(data);
  const head = fields([0x0003e889045565a9n, 8], [option, 4], [type, 4], [payload.length, 4]);
  return Buffer.concat([head, payload]);
}

/** NBD_INFO_EXPORT, as INFO and GO answer it. */
export function infoExport(option: number, bytes: number | bigint, flags: number): Buffer {
  return optionReply(option, 3, fields([0, 2], [bytes, 8], [flags, 2]));
}

/** A string with its length in front, as options carry it. */
export function sized(text: Buffer | string): Buffer {
  const bytes = Buffer.from(text);
  return Buffer.concat([fields([bytes.length, 4]), bytes]);
}

/** The data of LIST_META_CONTEXT and SET_META_CONTEXT. */
export function contextRequest(name: string, queries: readonly string[]): Buffer {
  return Buffer.concat([sized(name), fields([queries.length, 4]), ...queries.map(sized)]);
}

export function simpleReply(error: number, cookie: number | bigint, data?: Buffer): Buffer {
  const head = fields([0x67446698, 4], [error, 4], [cookie, 8]);
  return Buffer.concat([head, data ?? Buffer.alloc(0)]);
}

/** Flags of a chunk: the last of its reply. */
export const DONE = 1;

/** A chunk of a structured reply. */
export function chunk(
  flags: number,
  type: number,
  cookie: number | bigint,
  payload: Buffer = Buffer.alloc(0),
): Buffer {
  const head = fields([0x668e33ef, 4], [flags, 2], [type, 2], [cookie, 8], [payload.length, 4]);
  return Buffer.concat([head, payload]);
}

/** A chunk of an extended reply; `offset` is that of the request. */
export function extendedChunk(
  flags: number,
  type: number,
  cookie: number | bigint,
  offset: number | bigint,
  payload: Buffer = Buffer.alloc(0),
): Buffer {
  const head = fields([0x6e8a278c, 4], [flags, 2], [type, 2], [cookie, 8], [offset, 8]);
  return Buffer.concat([head, fields([payload.length, 8]), payload]);
}

/** The payload of an error chunk, with its place if there is one. */
export function errorPayload(error: number, message: string, offset?: number): Buffer {
  const text = Buffer.from(message);
  const place = offset === undefined ? Buffer.alloc(0) : fields([offset, 8]);
  return Buffer.concat([fields([error, 4], [text.length, 2]), text, place]);
}

export interface WireRequest {
  readonly type: number;
  readonly cookie: number | bigint;
  readonly flags?: number;
  readonly offset?: number | bigint;
  /** That of the payload unless it says otherwise. */
  readonly length?: number | bigint;
  readonly payload?: Buffer;
}

/** A compact request, whatever its numbers. */
export function compactRequest(request: WireRequest): Buffer {
  const { type, cookie, flags = 0, offset = 0, payload = Buffer.alloc(0) } = request;
  const head = fields([0x25609513, 4], [flags, 2], [type, 2], [cookie, 8], [offset, 8]);
  return Buffer.concat([head, fields([request.length ?? payload.length, 4]), payload]);
}

/** An extended request, whatever its numbers. */
export function extendedRequest(request: WireRequest): Buffer {
  const { type, cookie, flags = 0, offset = 0, payload = Buffer.alloc(0) } = request;
  const head = fields([0x21e41c71, 4], [flags, 2], [type, 2], [cookie, 8], [offset, 8]);
  return Buffer.concat([head, fields([request.length ?? payload.length, 8]), payload]);
}

/**
 * An NBD client for tests that sends one request at a time, any request, and takes its answer apart: simple replies,
 * or structured ones with `base:allocation`. It insists on what the protocol says of every answer (magic, cookie,
 * DONE, chunks inside the request, every byte of a READ covered once), and hides no error.
 */
import { encodeRequest, type NbdRequest } from './nbd-client.js';
import { NBD_CMD_DISC, NBD_CMD_READ, NBD_SIMPLE_REPLY_MAGIC } from './nbd-constants.js';
import { go, greet, sendOption, type ExportFacts } from './nbd-handshake.js';
import { parseNbdUri, RawConnection } from './raw-connection.js';

export const NBD_CMD_BLOCK_STATUS = 7;
export const NBD_CMD_FLAG = { FUA: 1, NO_HOLE: 2, DF: 4, REQ_ONE: 8 } as const;

const NBD_STRUCTURED_REPLY_MAGIC = 0x668e33ef;
const NBD_OPT_STRUCTURED_REPLY = 8;
const NBD_OPT_SET_META_CONTEXT = 10;
const NBD_REP_ACK = 1;
const NBD_REP_META_CONTEXT = 4;
const NBD_REPLY_FLAG_DONE = 1;
const CHUNK = { none: 0, data: 1, hole: 2, status: 5, error: 0x8001, errorOffset: 0x8002 } as const;
const CHUNK_BYTES_MAX = 40 * 1024 * 1024;
const CONTEXT = 'base:allocation';

/** A run of bytes with one status of `base:allocation`: bit 0 HOLE, bit 1 ZERO. */
export interface StatusExtent {
  readonly bytes: number;
  readonly status: number;
}

/** A whole answer. */
export interface Answer {
  /** 0, or an NBD error number. */
  readonly error: number;
  /** What a READ returned. */
  readonly data: Buffer;
  /** What BLOCK_STATUS returned. */
  readonly extents: readonly StatusExtent[];
  /** Chunks with data or holes. */
  readonly contentChunks: number;
}

/** What is known of an answer so far. */
interface Growing {
  error: number;
  readonly data: Buffer;
  readonly covered: Uint8Array;
  extents: StatusExtent[];
  contentChunks: number;
}

export class ChunkClient {
  readonly facts: ExportFacts;
  readonly #connection: RawConnection;
  readonly #contextId: number;
  #cookie = 1n;

  private constructor(connection: RawConnection, facts: ExportFacts, contextId: number) {
    this.#connection = connection;
    this.facts = facts;
    this.#contextId = contextId;
  }

  /** Connects to the export in an NBD URI, with structured replies or without. */
  static async connect(uri: string, headers: 'simple' | 'structured'): Promise<ChunkClient> {
    const { address, exportName } = parseNbdUri(uri);
    const connection = await RawConnection.open(address);
    await greet(connection);
    const contextId = headers === 'simple' ? -1 : await negotiate(connection, exportName);
    return new ChunkClient(connection, await go(connection, exportName), contextId);
  }

  /** Sends a request and waits for all of its answer. */
  async ask(request: NbdRequest): Promise<Answer> {
    const cookie = this.#cookie++;
    const length = request.length ?? request.payload?.length ?? 0;
    this.#connection.write(encodeRequest({ ...request, length }, cookie));
    if (request.payload !== undefined) this.#connection.write(request.payload);
    const readBytes = request.type === NBD_CMD_READ ? length : 0;
    const answer: Growing = {
      error: 0,
      data: Buffer.alloc(readBytes),
      covered: new Uint8Array(readBytes),
      extents: [],
      contentChunks: 0,
    };
    const isSimple = await this.#receive(request, cookie, answer);
    const isSuccess = answer.error === 0;
    if (isSuccess && readBytes > 0 && answer.covered.includes(0))
      throw new Error('a READ succeeded without some of its bytes');
    if (isSuccess && isSimple && request.type === NBD_CMD_BLOCK_STATUS)
      throw new Error('a BLOCK_STATUS succeeded with a simple reply');
    return answer;
  }

  /** Says goodbye and waits until the server closed the connection. */
  async disconnect(): Promise<void> {
    this.#connection.write(encodeRequest({ type: NBD_CMD_DISC }, this.#cookie));
    await this.#connection.closedByServer();
    this.#connection.destroy();
  }

  /** Drops the connection at once. */
  destroy(): void {
    this.#connection.destroy();
  }

  /** @returns True if the answer was a simple reply */
  async #receive(request: NbdRequest, cookie: bigint, answer: Growing): Promise<boolean> {
    for (let isFirst = true; ; isFirst = false) {
      const magic = (await this.#connection.read(4)).readUInt32BE(0);
      if (magic === NBD_SIMPLE_REPLY_MAGIC && isFirst) {
        await this.#simpleReply(request, cookie, answer);
        return true;
      }
      if (magic !== NBD_STRUCTURED_REPLY_MAGIC || this.#contextId < 0)
        throw new Error(`a reply with the magic ${magic.toString(16)}`);
      const header = await this.#connection.read(16);
      if (header.readBigUInt64BE(4) !== cookie) throw new Error('a reply to another request');
      const bytes = header.readUInt32BE(12);
      if (bytes > CHUNK_BYTES_MAX) throw new Error(`a chunk of ${bytes} bytes`);
      const payload = bytes === 0 ? Buffer.alloc(0) : await this.#connection.read(bytes);
      this.#takeChunk(header.readUInt16BE(2), payload, request, answer);
      const flags = header.readUInt16BE(0);
      if ((flags & ~NBD_REPLY_FLAG_DONE) !== 0) throw new Error(`reply flags ${flags}`);
      if (flags === NBD_REPLY_FLAG_DONE) return false;
    }
  }

  async #simpleReply(request: NbdRequest, cookie: bigint, answer: Growing): Promise<void> {
    const rest = await this.#connection.read(12);
    if (rest.readBigUInt64BE(4) !== cookie) throw new Error('a reply to another request');
    answer.error = rest.readUInt32BE(0);
    if (request.type !== NBD_CMD_READ) return;
    if (this.#contextId >= 0) throw new Error('a simple reply to READ, structured ones agreed');
    if (answer.error !== 0 || answer.data.length === 0) return;
    (await this.#connection.read(answer.data.length)).copy(answer.data);
    answer.covered.fill(1);
    answer.contentChunks = 1;
  }

  #takeChunk(type: number, payload: Buffer, request: NbdRequest, answer: Growing): void {
    switch (type) {
      case CHUNK.none:
        if (payload.length !== 0) throw new Error('NBD_REPLY_TYPE_NONE with a payload');
        return;
      case CHUNK.data: {
        const bytes = payload.subarray(8);
        bytes.copy(answer.data, cover(payload, bytes.length, request, answer));
        return;
      }
      case CHUNK.hole:
        if (payload.length !== 12) throw new Error('NBD_REPLY_TYPE_OFFSET_HOLE has 12 bytes');
        cover(payload, payload.readUInt32BE(8), request, answer);
        return;
      case CHUNK.status:
        if (payload.readUInt32BE(0) !== this.#contextId) throw new Error('another context');
        if (answer.extents.length > 0) throw new Error('two status chunks of one context');
        answer.extents = extentsOf(payload.subarray(4));
        return;
      case CHUNK.error:
      case CHUNK.errorOffset:
        answer.error ||= payload.readUInt32BE(0);
        if (answer.error === 0) throw new Error('an error chunk with error 0');
        return;
      default:
        throw new Error(`a chunk of type ${type}`);
    }
  }
}

/** Notes the bytes of a content chunk. @returns Where they lie in the request */
function cover(payload: Buffer, bytes: number, request: NbdRequest, answer: Growing): number {
  const at = Number(payload.readBigUInt64BE(0) - BigInt(request.offset ?? 0));
  if (bytes === 0 || at < 0 || at + bytes > answer.data.length)
    throw new Error(`a chunk of ${bytes} bytes at ${at} of a READ of ${answer.data.length}`);
  if (answer.covered.subarray(at, at + bytes).includes(1)) throw new Error('bytes came twice');
  answer.covered.fill(1, at, at + bytes);
  answer.contentChunks += 1;
  return at;
}

function extentsOf(bytes: Buffer): StatusExtent[] {
  if (bytes.length === 0 || bytes.length % 8 !== 0) throw new Error('not a list of extents');
  return Array.from({ length: bytes.length / 8 }, (_, index) => ({
    bytes: bytes.readUInt32BE(8 * index),
    status: bytes.readUInt32BE(8 * index + 4),
  }));
}

/** @returns The id of the context */
async function negotiate(connection: RawConnection, exportName: string): Promise<number> {
  const [structured] = await sendOption(connection, NBD_OPT_STRUCTURED_REPLY);
  if (structured?.type !== NBD_REP_ACK) throw new Error('no structured replies');
  const parts = [exportName, CONTEXT].map((text) => {
    const bytes = Buffer.from(text);
    const length = Buffer.alloc(4);
    length.writeUInt32BE(bytes.length);
    return Buffer.concat([length, bytes]);
  });
  const [name = Buffer.alloc(0), query = Buffer.alloc(0)] = parts;
  const data = Buffer.concat([name, Buffer.from([0, 0, 0, 1]), query]);
  const [context] = await sendOption(connection, NBD_OPT_SET_META_CONTEXT, data);
  if (context?.type !== NBD_REP_META_CONTEXT) throw new Error(`no context ${CONTEXT}`);
  return context.data.readUInt32BE(0);
}

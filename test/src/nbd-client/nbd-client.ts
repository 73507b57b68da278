/**
 * A small NBD client for tests: any kind of headers, any number of requests in flight, answered in any order. It
 * checks what it gets (magic, a cookie it sent, no second answer) and hides nothing: an error is a number in
 * the reply, not an exception. When the connection ends, every open request is rejected with `ConnectionLost`.
 */
import { readChunk } from './chunk-reply.js';
import {
  NBD_CMD_DISC,
  NBD_CMD_FLAG_PAYLOAD_LEN,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_EXTENDED_REQUEST_MAGIC,
  NBD_REQUEST_MAGIC,
  NBD_SIMPLE_REPLY_MAGIC,
} from './nbd-constants.js';
import { go, greet, negotiateHeaders } from './nbd-handshake.js';
import type { ExportFacts, HeaderKind } from './nbd-handshake.js';
import { ConnectionLost, RawConnection, parseNbdUri } from './raw-connection.js';

/** A request as it goes over the wire. Nothing is checked: a test may send nonsense. */
export interface NbdRequest {
  readonly type: number;
  readonly flags?: number;
  readonly offset?: number | bigint;
  readonly length?: number;
  readonly payload?: Buffer;
}

/** `error` is 0 or an NBD error number; `data` is what a successful READ returned. */
export interface NbdReply {
  readonly error: number;
  readonly data: Buffer;
}

interface Open {
  readonly readBytes: number;
  readonly offset: number;
  /** Of a READ that is answered in chunks. */
  readonly data: Buffer;
  error: number;
  resolve(reply: NbdReply): void;
  reject(error: Error): void;
}

const NO_DATA = Buffer.alloc(0);

export class NbdClient {
  readonly facts: ExportFacts;
  readonly connection: RawConnection;
  readonly #headers: HeaderKind;
  readonly #open = new Map<bigint, Open>();
  #nextCookie = 1n;
  #ended: Error | null = null;

  private constructor(connection: RawConnection, facts: ExportFacts, headers: HeaderKind) {
    this.connection = connection;
    this.facts = facts;
    this.#headers = headers;
    void this.#receive();
  }

  /** Connects and enters transmission. */
  static async connect(uri: string, headers: HeaderKind = 'simple'): Promise<NbdClient> {
    const { address, exportName } = parseNbdUri(uri);
    const connection = await RawConnection.open(address);
    try {
      await greet(connection);
      await negotiateHeaders(connection, headers);
      return new NbdClient(connection, await go(connection, exportName), headers);
    } catch (error) {
      connection.destroy();
      throw error;
    }
  }

  /** Why the client reads no more replies; null while it does. */
  get ended(): Error | null {
    return this.#ended;
  }

  /** Sends a request. @throws ConnectionLost, as a rejection, if no answer comes any more */
  request(request: NbdRequest): Promise<NbdReply> {
    return new Promise((resolve, reject) => {
      if (this.#ended !== null) {
        reject(this.#ended);
        return;
      }
      const cookie = this.#nextCookie++;
      const length = request.length ?? request.payload?.length ?? 0;
      const readBytes = request.type === NBD_CMD_READ ? length : 0;
      const data = this.#headers === 'simple' ? NO_DATA : Buffer.alloc(readBytes);
      this.#open.set(cookie, {
        readBytes,
        offset: Number(request.offset ?? 0),
        data,
        error: 0,
        resolve,
        reject,
      });
      const encode = this.#headers === 'extended' ? encodeExtendedRequest : encodeRequest;
      const header = encode({ ...request, length }, cookie);
      if (request.payload === undefined) this.connection.write(header);
      else this.connection.write(header, request.payload);
    });
  }

  read(offset: number, length: number): Promise<NbdReply> {
    return this.request({ type: NBD_CMD_READ, offset, length });
  }

  write(offset: number, payload: Buffer, flags = 0): Promise<NbdReply> {
    return this.request({ type: NBD_CMD_WRITE, offset, payload, flags });
  }

  trim(offset: number, length: number, flags = 0): Promise<NbdReply> {
    return this.request({ type: NBD_CMD_TRIM, offset, length, flags });
  }

  zero(offset: number, length: number, flags = 0): Promise<NbdReply> {
    return this.request({ type: NBD_CMD_WRITE_ZEROES, offset, length, flags });
  }

  flush(): Promise<NbdReply> {
    return this.request({ type: NBD_CMD_FLUSH });
  }

  /** Says goodbye and waits until the server closed the connection. */
  async disconnect(): Promise<void> {
    const encode = this.#headers === 'extended' ? encodeExtendedRequest : encodeRequest;
    this.connection.write(encode({ type: NBD_CMD_DISC }, this.#nextCookie++));
    await this.connection.closedByServer();
    this.connection.destroy();
  }

  async #receiveReply(): Promise<void> {
    const header = await this.connection.read(16);
    if (header.readUInt32BE(0) !== NBD_SIMPLE_REPLY_MAGIC)
      throw new Error(`not a simple reply: ${header.toString('hex')}`);
    const error = header.readUInt32BE(4);
    const cookie = header.readBigUInt64BE(8);
    const open = this.#openAs(cookie);
    const readBytes = error === 0 ? open.readBytes : 0;
    const data = readBytes > 0 ? await this.connection.read(readBytes) : NO_DATA;
    this.#open.delete(cookie);
    open.resolve({ error, data });
  }

  async #receiveChunk(headers: 'structured' | 'extended'): Promise<void> {
    const { cookie, isLast, error, offset, data } = await readChunk(this.connection, headers);
    const open = this.#openAs(cookie);
    if (error !== 0) open.error = error;
    if (data !== null) data.copy(open.data, offset - open.offset);
    if (!isLast) return;
    this.#open.delete(cookie);
    open.resolve({ error: open.error, data: open.error === 0 ? open.data : NO_DATA });
  }

  #openAs(cookie: bigint): Open {
    const open = this.#open.get(cookie);
    if (open === undefined) throw new Error(`a reply to cookie ${cookie}, which is not open`);
    return open;
  }

  async #receive(): Promise<void> {
    try {
      for (;;)
        if (this.#headers === 'simple') await this.#receiveReply();
        else await this.#receiveChunk(this.#headers);
    } catch (error) {
      this.#ended = error instanceof Error ? error : new Error(String(error));
      for (const open of this.#open.values()) open.reject(this.#ended);
      this.#open.clear();
      if (!(error instanceof ConnectionLost)) this.connection.destroy();
    }
  }
}

/** The 32 bytes of an extended request. */
export function encodeExtendedRequest(request: NbdRequest, cookie: bigint): Buffer {
  const compact = encodeRequest(request, cookie);
  const header = Buffer.concat([compact.subarray(0, 24), Buffer.alloc(8)]);
  header.writeUInt32BE(NBD_EXTENDED_REQUEST_MAGIC, 0);
  if (request.payload !== undefined)
    header.writeUInt16BE((request.flags ?? 0) | NBD_CMD_FLAG_PAYLOAD_LEN, 4);
  header.writeBigUInt64BE(BigInt(request.length ?? 0), 24);
  return header;
}

/** The 28 bytes of a compact request. */
export function encodeRequest(request: NbdRequest, cookie: bigint): Buffer {
  const header = Buffer.alloc(28);
  header.writeUInt32BE(NBD_REQUEST_MAGIC, 0);
  header.writeUInt16BE(request.flags ?? 0, 4);
  header.writeUInt16BE(request.type, 6);
  header.writeBigUInt64BE(cookie, 8);
  header.writeBigUInt64BE(BigInt(request.offset ?? 0), 16);
  header.writeUInt32BE(request.length ?? 0, 24);
  return header;
}

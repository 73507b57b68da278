/**
 * Speaks the protocol byte by byte, so that tests can also speak it wrongly. Nothing here checks what is sent; what comes
 * back is read with the frame reader that ships.
 */
// eslint-disable-next-line no-restricted-imports -- equipment of tests: it stands for a client that is not ours
import { connect, type Socket } from 'node:net';
import {
  crc32cShort,
  decodeBeginAnswer,
  decodeHelloAnswer,
  decodeOpenPoolAnswer,
  encodeBegin,
  encodeHello,
  encodeOpenPool,
  FrameReader,
  HEADER_BYTES,
  objectRequestBytes,
  OP,
  ObjectRef,
  OBJECT_KIND,
  pieceChecksOf,
  writeChecks,
  writeObjectRequest,
  writeRequestHeader,
  type Begin,
  type BeginAnswer,
  type Hello,
  type HelloAnswer,
  type ListenAddress,
} from '@store/core';
import { sleep, until } from './until.js';

const NOTHING: Buffer = Buffer.alloc(0);
/** Where the checksum of a header stands. */
const AT_HEADER_CRC = 44;

/** What came back to one request. */
export interface RawAnswer {
  readonly op: number;
  readonly requestId: number;
  readonly status: number;
  readonly body: Buffer;
  readonly payload: Buffer;
}

export class RawClient {
  readonly answers: RawAnswer[] = [];
  readonly socket: Socket;
  /** The daemon has ended the connection, or it broke. */
  isOver = false;
  receivedBytes = 0;
  pool = 0;
  readonly #reader = new FrameReader({ admit: () => true, target: () => null });
  #nextId = 0;

  /** Over a connection that is there already. */
  constructor(socket: Socket) {
    this.socket = socket;
    socket.on('error', () => (this.isOver = true));
    socket.on('close', () => (this.isOver = true));
    socket.on('end', () => (this.isOver = true));
    socket.on('data', (chunk: Buffer) => {
      this.receivedBytes += chunk.length;
      this.#reader.push(Buffer.from(chunk));
      while (this.#reader.next()) {
        const { header, body, payload } = this.#reader;
        const { op, requestId, status } = header;
        const copies = { body: Buffer.from(body), payload: Buffer.concat(payload) };
        this.answers.push({ op, requestId, status, ...copies });
      }
    });
  }

  static async connect(address: ListenAddress): Promise<RawClient> {
    const socket = 'path' in address ? connect(address.path) : connect(address.port, address.host);
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', () => resolve());
      socket.once('error', reject);
    });
    return new RawClient(socket);
  }

  /** Connects, and begins a session of its own. */
  static async begin(
    address: ListenAddress,
    begin: Partial<Begin> = {},
    name = 'raw',
  ): Promise<RawClient> {
    const client = await RawClient.connect(address);
    await client.hello({ name });
    await client.beginSession(begin);
    return client;
  }

  /** As `begin`, with a pool that requests then name. */
  static async open(address: ListenAddress, begin: Partial<Begin> = {}): Promise<RawClient> {
    const client = await RawClient.begin(address, begin);
    await client.openPool('pool');
    return client;
  }

  send(...parts: readonly Buffer[]): void {
    this.socket.write(Buffer.concat(parts));
  }

  /** The next id that was not used. */
  id(): number {
    this.#nextId += 1;
    return this.#nextId;
  }

  /** Ids go on from there. */
  skipTo(requestId: number): void {
    this.#nextId = requestId;
  }

  /** The answer to a request, taken out. @throws Error if it does not come */
  async answer(requestId: number, ms = 5000): Promise<RawAnswer> {
    const find = (): number => this.answers.findIndex((one) => one.requestId === requestId);
    await until(() => find() >= 0 || this.isOver, `an answer to request ${requestId}`, ms);
    const [found] = this.answers.splice(find(), find() < 0 ? 0 : 1);
    if (found === undefined) throw new Error(`the connection ended before request ${requestId}`);
    return found;
  }

  async ask(op: number, body = NOTHING, payload = NOTHING): Promise<RawAnswer> {
    const requestId = this.id();
    this.send(frame({ op, requestId, body, payload }));
    return this.answer(requestId);
  }

  async hello(fields: Partial<Hello> = {}): Promise<HelloAnswer> {
    return decodeHelloAnswer(good(await this.ask(OP.hello, encodeHello(hello(fields)))));
  }

  async beginSession(fields: Partial<Begin> = {}): Promise<BeginAnswer> {
    return decodeBeginAnswer(good(await this.ask(OP.begin, encodeBegin(begin(fields)))));
  }

  async openPool(name: string): Promise<number> {
    const answer = await this.ask(OP.openPool, encodeOpenPool({ name, create: true }));
    this.pool = decodeOpenPoolAnswer(good(answer)).pool;
    return this.pool;
  }

  async write(key: string | Buffer, offset: number, bytes: Buffer): Promise<RawAnswer> {
    return this.ask(OP.write, writeBody(this.pool, key, offset, bytes), bytes);
  }

  async read(key: string | Buffer, offset: number, bytes: number): Promise<RawAnswer> {
    return this.ask(OP.read, objectBody({ pool: this.pool, key, offset, bytes }));
  }

  /** Resolves when the daemon has ended the connection. */
  over(ms = 5000): Promise<void> {
    return until(() => this.isOver, 'the connection ends', ms);
  }

  async close(): Promise<void> {
    this.socket.destroy();
    await sleep(0);
  }
}

export function hello(fields: Partial<Hello> = {}): Hello {
  const nonce = Buffer.alloc(32, 7);
  return { versionMin: 1, versionMax: 1, name: 'raw', nonce, ticket: NOTHING, ...fields };
}

let sessions = 0;

export function begin(fields: Partial<Begin> = {}): Begin {
  const session = Buffer.alloc(16, 's');
  sessions += 1;
  session.writeUInt32LE(sessions, 0);
  return { session, incarnation: 1, proof: NOTHING, datagramBytes: 0, ...fields };
}

/** A good frame of a request. */
export function frame(fields: {
  readonly op: number;
  readonly requestId: number;
  readonly floor?: number;
  readonly body?: Buffer;
  readonly payload?: Buffer;
}): Buffer {
  const { op, requestId, floor = 0, body = NOTHING, payload = NOTHING } = fields;
  const out = Buffer.alloc(HEADER_BYTES + body.length);
  body.copy(out, HEADER_BYTES);
  writeRequestHeader(out, 0, op, requestId, floor, body.length, payload.length);
  return Buffer.concat([out, payload]);
}

/** A frame whose header was changed by `change`, with a checksum that is right again. */
export function forged(good: Buffer, change: (header: Buffer) => void): Buffer {
  const out = Buffer.from(good);
  change(out);
  out.writeUInt32LE(crc32cShort(out, 0, AT_HEADER_CRC), AT_HEADER_CRC);
  return out;
}

export function objectBody(fields: {
  readonly pool?: number;
  readonly key: string | Buffer;
  readonly kind?: ObjectRef['kind'];
  readonly flags?: number;
  readonly offset?: number;
  readonly bytes?: number;
  readonly extra?: number;
  readonly checks?: Uint32Array;
}): Buffer {
  const { pool = 0, key, kind = OBJECT_KIND.plain, flags = 0, offset = 0, bytes = 0 } = fields;
  const ref = new ObjectRef(kind, key);
  const { extra = 0, checks = new Uint32Array(0) } = fields;
  const out = Buffer.alloc(objectRequestBytes(ref) + 4 * checks.length);
  const end = writeObjectRequest(out, 0, pool, ref, flags, offset, bytes, extra);
  writeChecks(out, end, checks);
  return out;
}

export function writeBody(
  pool: number,
  key: string | Buffer,
  offset: number,
  bytes: Buffer,
): Buffer {
  const checks = pieceChecksOf(offset, [bytes]);
  return objectBody({ pool, key, offset, bytes: bytes.length, checks });
}

function good(answer: RawAnswer): Buffer {
  if (answer.status !== 0) throw new Error(`status ${answer.status}: ${answer.body.toString()}`);
  return answer.body;
}

/* eslint-disable no-restricted-imports, no-restricted-globals -- the other end of the wire, outside of Env */
import { connect, type Socket } from 'node:net';
import type { ListenAddress } from '@store/core';
import { NBD_MAGIC, NBD_OPT, NBD_REP } from '../protocol/constants.js';

const TIMEOUT_MS = 10_000;

/** An option as a client sends it. */
export function option(number: number, data: Buffer | string = ''): Buffer {
  const payload = Buffer.from(data);
  const header = Buffer.alloc(16);
  header.writeUInt32BE(NBD_MAGIC.IHAVEOPT_HIGH, 0);
  header.writeUInt32BE(NBD_MAGIC.IHAVEOPT_LOW, 4);
  header.writeUInt32BE(number, 8);
  header.writeUInt32BE(payload.length, 12);
  return Buffer.concat([header, payload]);
}

/** The data of INFO and GO. */
export function exportRequest(name: string, infos: readonly number[] = []): Buffer {
  const nameBytes = Buffer.from(name);
  const out = Buffer.alloc(6 + nameBytes.length + 2 * infos.length);
  out.writeUInt32BE(nameBytes.length, 0);
  nameBytes.copy(out, 4);
  out.writeUInt16BE(infos.length, 4 + nameBytes.length);
  infos.forEach((info, index) => out.writeUInt16BE(info, 6 + nameBytes.length + 2 * index));
  return out;
}

export function clientFlags(flags: number): Buffer {
  const out = Buffer.alloc(4);
  out.writeUInt32BE(flags);
  return out;
}

export interface RequestFields {
  type: number;
  cookie: number;
  offset?: number;
  length?: number;
  flags?: number;
  payload?: Buffer;
}

/** A compact request; `length` is that of the payload unless it says otherwise. */
export function request(fields: RequestFields): Buffer {
  const header = Buffer.alloc(28);
  header.writeUInt32BE(NBD_MAGIC.REQUEST, 0);
  header.writeUInt16BE(fields.flags ?? 0, 4);
  header.writeUInt16BE(fields.type, 6);
  header.writeBigUInt64BE(BigInt(fields.cookie), 8);
  header.writeBigUInt64BE(BigInt(fields.offset ?? 0), 16);
  header.writeUInt32BE(fields.length ?? fields.payload?.length ?? 0, 24);
  return Buffer.concat([header, fields.payload ?? Buffer.alloc(0)]);
}

export interface SimpleReply {
  error: number;
  cookie: number;
}

/** A client that says exactly what a test wants it to say. */
export class RawClient {
  readonly socket: Socket;
  /** Resolves when the connection is gone, whatever the reason. */
  readonly closed: Promise<void>;
  #chunks: Buffer[] = [];
  #bytes = 0;
  #isClosed = false;
  #wake: () => void = () => undefined;

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on('error', () => undefined); // `closed` tells
    socket.on('data', (chunk: Buffer) => {
      this.#chunks.push(chunk);
      this.#bytes += chunk.length;
      this.#wake();
    });
    this.closed = new Promise((resolve) => {
      socket.on('close', () => {
        this.#isClosed = true;
        this.#wake();
        resolve();
      });
    });
    socket.on('end', () => this.#wake());
  }

  /** A client over a socket that is connected: one inside TLS. */
  static over(socket: Socket): RawClient {
    return new RawClient(socket);
  }

  static connect(address: ListenAddress): Promise<RawClient> {
    return new Promise((resolve, reject) => {
      const socket = connect({ ...address, allowHalfOpen: false });
      socket.once('error', reject);
      socket.once('connect', () => {
        socket.removeListener('error', reject);
        resolve(new RawClient(socket));
      });
    });
  }

  /** Connects, reads the greeting and sends the client's flags. */
  static async greeted(address: ListenAddress, flags = 3): Promise<RawClient> {
    const client = await RawClient.connect(address);
    await client.read(18);
    client.send(clientFlags(flags));
    return client;
  }

  /** Connects and goes to the transmission phase of `name`. */
  static async go(address: ListenAddress, name = ''): Promise<RawClient> {
    const client = await RawClient.greeted(address);
    await client.enter(name);
    return client;
  }

  /** Sends options that must be acknowledged, then GO. */
  async enter(
    name = '',
    options: readonly Buffer[] = [],
    infos: readonly number[] = [],
  ): Promise<void> {
    for (const one of options) {
      this.send(one);
      const type = await this.#lastReplyType();
      if (type !== NBD_REP.ACK) throw new Error(`an option was answered ${type}`);
    }
    this.send(option(NBD_OPT.GO, exportRequest(name, infos)));
    const type = await this.#lastReplyType();
    if (type !== NBD_REP.ACK) throw new Error(`GO was answered ${type}`);
  }

  async #lastReplyType(): Promise<number> {
    for (;;) {
      const { type } = await this.optionReply();
      if (type === NBD_REP.ACK || type > 2 ** 31) return type;
    }
  }

  /** Sends an option. @returns The type of the reply that ends it */
  async opt(number: number, data: Buffer | string = ''): Promise<number> {
    this.send(option(number, data));
    return this.#lastReplyType();
  }

  /** The next bytes are these. @throws Error with both, if they are not */
  async expect(...parts: readonly Buffer[]): Promise<void> {
    const wanted = Buffer.concat(parts);
    const found = await this.read(wanted.length);
    if (found.equals(wanted)) return;
    const at = found.findIndex((byte, index) => byte !== wanted[index]);
    const near = (bytes: Buffer): string => bytes.subarray(at, at + 48).toString('hex');
    throw new Error(`byte ${at}: ${near(found)} came, not ${near(wanted)}`);
  }

  /** Waits for the end of the connection. @returns Everything that came before it */
  async rest(): Promise<Buffer> {
    const timeout = new Promise<'late'>((resolve) =>
      setTimeout(() => resolve('late'), TIMEOUT_MS).unref(),
    );
    if ((await Promise.race([this.closed, timeout])) === 'late')
      throw new Error('the server does not close the connection');
    return this.read(this.#bytes);
  }
  send(...parts: Buffer[]): void {
    for (const part of parts) this.socket.write(part);
  }

  /** Bytes that arrived and were not read. */
  get available(): number {
    return this.#bytes;
  }

  /** Exactly `count` bytes; fails if the connection ends before, or after ten seconds. */
  async read(count: number): Promise<Buffer> {
    const all = await this.#gather(count);
    const rest = all.subarray(count);
    this.#chunks = rest.length > 0 ? [rest] : [];
    this.#bytes = rest.length;
    return all.subarray(0, count);
  }

  /** As `read`, but the bytes stay to be read. */
  async peek(count: number): Promise<Buffer> {
    const all = await this.#gather(count);
    this.#chunks = [all];
    return all.subarray(0, count);
  }

  async #gather(count: number): Promise<Buffer> {
    const giveUp = performance.now() + TIMEOUT_MS;
    while (this.#bytes < count) {
      if (this.#isClosed) throw new Error(`closed after ${this.#bytes} of ${count} bytes`);
      if (performance.now() > giveUp) throw new Error(`timeout: ${this.#bytes} of ${count} bytes`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, TIMEOUT_MS);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    return Buffer.concat(this.#chunks);
  }

  async optionReply(): Promise<{ option: number; type: number; data: Buffer }> {
    const header = await this.read(20);
    const data = await this.read(header.readUInt32BE(16));
    return { option: header.readUInt32BE(8), type: header.readUInt32BE(12), data };
  }

  /** The next simple reply; the data of a READ is to be read after it. @throws if it is not one */
  async reply(): Promise<SimpleReply> {
    const header = await this.read(16);
    if (header.readUInt32BE(0) !== NBD_MAGIC.SIMPLE_REPLY)
      throw new Error(`a reply begins with ${header.toString('hex')}`);
    return { error: header.readUInt32BE(4), cookie: Number(header.readBigUInt64BE(8)) };
  }

  /** Sends one request and returns the error of its reply. */
  async ask(fields: RequestFields): Promise<number> {
    this.send(request(fields));
    const reply = await this.reply();
    if (reply.cookie !== fields.cookie) throw new Error(`cookie ${reply.cookie} came back`);
    return reply.error;
  }

  close(): void {
    this.socket.destroy();
  }
}

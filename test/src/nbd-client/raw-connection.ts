/**
 * A socket that reads exactly as many bytes as asked and writes anything, well-formed or not. One reader at a
 * time. When the connection ends, whoever waits gets `ConnectionLost`.
 */
import type { Socket } from 'node:net';
import { connect } from 'node:net';

/** The server closed the connection, or it broke. */
export class ConnectionLost extends Error {
  override name = 'ConnectionLost';
}

/** Where a server listens. */
export type ServerAddress =
  { readonly socket: string } | { readonly host: string; readonly port: number };

/** The address and export name in an NBD URI. */
export function parseNbdUri(uri: string): { address: ServerAddress; exportName: string } {
  const url = new URL(uri.replace(/^nbd(\+unix)?:/, 'http:').replace('http:///', 'http://unix/'));
  const exportName = decodeURIComponent(url.pathname.slice(1));
  const socket = url.searchParams.get('socket');
  if (socket !== null) return { address: { socket }, exportName };
  const host = url.hostname.replace(/^\[|\]$/g, '');
  return { address: { host, port: Number(url.port || 10809) }, exportName };
}

interface Waiting {
  readonly bytes: number;
  resolve(bytes: Buffer): void;
  reject(error: Error): void;
}

export class RawConnection {
  readonly #socket: Socket;
  #chunks: Buffer[] = [];
  #bufferedBytes = 0;
  #waiting: Waiting | null = null;
  #lost: ConnectionLost | null = null;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('data', (chunk: Buffer) => {
      this.#chunks.push(chunk);
      this.#bufferedBytes += chunk.length;
      this.#serve();
    });
    socket.on('error', (error) => this.#lose(error.message));
    socket.on('end', () => this.#lose('the server closed the connection'));
    socket.on('close', () => this.#lose('the connection closed'));
  }

  static open(address: ServerAddress): Promise<RawConnection> {
    return new Promise((resolve, reject) => {
      const socket = connect(
        'socket' in address
          ? { path: address.socket }
          : { host: address.host, port: address.port, noDelay: true },
      );
      socket.once('error', reject);
      socket.once('connect', () => {
        socket.off('error', reject);
        resolve(new RawConnection(socket));
      });
    });
  }

  get lost(): boolean {
    return this.#lost !== null;
  }

  /** Sends the parts one after the other. Bytes sent into a dead connection vanish, as on any socket. */
  write(...parts: readonly Buffer[]): void {
    this.#socket.cork();
    for (const part of parts) this.#socket.write(part);
    this.#socket.uncork();
  }

  /** What `work` writes leaves together. */
  together<Result>(work: () => Result): Result {
    this.#socket.cork();
    try {
      return work();
    } finally {
      this.#socket.uncork();
    }
  }

  /** The next `bytes` bytes. @throws ConnectionLost if they do not come any more */
  read(bytes: number): Promise<Buffer> {
    if (this.#waiting !== null) throw new Error('one reader at a time');
    return new Promise((resolve, reject) => {
      this.#waiting = { bytes, resolve, reject };
      this.#serve();
    });
  }

  /** Resolves when the server closed the connection. */
  closedByServer(): Promise<void> {
    if (this.#lost !== null) return Promise.resolve();
    return new Promise((resolve) => this.#socket.once('close', () => resolve()));
  }

  /** Sends no more, still reads. */
  halfClose(): void {
    this.#socket.end();
  }

  /** Drops the connection at once. */
  destroy(): void {
    this.#socket.destroy();
  }

  #serve(): void {
    const waiting = this.#waiting;
    if (waiting === null) return;
    if (this.#bufferedBytes >= waiting.bytes) {
      this.#waiting = null;
      waiting.resolve(this.#take(waiting.bytes));
    } else if (this.#lost !== null) {
      this.#waiting = null;
      waiting.reject(this.#lost);
    }
  }

  #take(bytes: number): Buffer {
    const all = this.#chunks.length === 1 ? this.#chunks[0] : Buffer.concat(this.#chunks);
    const buffer = all ?? Buffer.alloc(0);
    this.#chunks = buffer.length > bytes ? [buffer.subarray(bytes)] : [];
    this.#bufferedBytes -= bytes;
    return buffer.subarray(0, bytes);
  }

  #lose(why: string): void {
    this.#lost ??= new ConnectionLost(why);
    this.#serve();
  }
}

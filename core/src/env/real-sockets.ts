/**
 * Sockets that belong to us and not to Node's event loop: plain descriptors, to be handed to the kernel's block device
 * driver, and netlink, which Node does not speak. System calls go through `koffi`; only `poll` waits, in a thread of
 * the pool, so every wait has a deadline and the event loop goes on.
 *
 * Descriptors are close-on-exec and non-blocking. The kernel's own use of a socket does not look at that flag.
 */
import { isIPv6 } from 'node:net';
import { StoreError } from '../util/errors.js';
import { errno, loadLibrary } from '../util/native-library.js';

const AF_UNIX = 1;
const AF_INET = 2;
const AF_INET6 = 10;
const AF_NETLINK = 16;
const SOCK_STREAM = 1;
const SOCK_RAW = 3;
const SOCK_NONBLOCK_CLOEXEC = 0o4000 | 0o2000000;
const SOL_SOCKET = 1;
const SO_ERROR = 4;
const SO_KEEPALIVE = 9;
const IPPROTO_TCP = 6;
const TCP_NODELAY = 1;
const TCP_KEEPIDLE = 4;
const TCP_KEEPINTVL = 5;
const TCP_KEEPCNT = 6;
const MSG_TRUNC = 0x20;
const MSG_NOSIGNAL = 0x4000;
const UNIX_PATH_BYTES_MAX = 108;
const POLLFD_BYTES = 8;

/** What `poll` tells of a descriptor. */
export const POLL = { IN: 1, OUT: 4, ERR: 8, HUP: 16, RDHUP: 0x2000 } as const;

const EINTR = 4;
const EAGAIN = 11;
const EINPROGRESS = 115;
/** The errors a user can do something about. */
const REASONS: Readonly<Record<number, string>> = {
  1: 'not permitted (EPERM)',
  2: 'there is no such socket (ENOENT)',
  13: 'permission denied (EACCES)',
  32: 'the connection was closed (EPIPE)',
  97: 'this kernel does not know that kind of address (EAFNOSUPPORT)',
  101: 'the network is unreachable (ENETUNREACH)',
  104: 'the connection was reset (ECONNRESET)',
  105: 'messages were lost (ENOBUFS)',
  110: 'no answer (ETIMEDOUT)',
  111: 'nothing listens there (ECONNREFUSED)',
  113: 'no route to that host (EHOSTUNREACH)',
};

/** A resolved address: no names here. A Unix path that starts with NUL is an abstract one. */
export type SocketAddress = { ip: string; port: number } | { path: string };

/** Says what an error number means. */
export function errnoText(errno: number): string {
  return REASONS[errno] ?? `error ${errno}`;
}

/** One descriptor. Whoever made it closes it. */
export class RawSocket {
  readonly descriptor: number;
  #open = true;

  private constructor(descriptor: number) {
    this.descriptor = descriptor;
  }

  /**
   * A connected stream, without Nagle's delay, that notices a host that is gone while nothing is sent.
   * @throws StoreError `E_SYSTEM` if the other side refuses, `E_TIMEOUT` if it says nothing
   */
  static async connect(address: SocketAddress, limitMs: number): Promise<RawSocket> {
    const { family, bytes } = encodeAddress(address);
    const socket = RawSocket.#make(family, SOCK_STREAM, 0);
    try {
      await socket.#finishConnect(calls().connect(socket.descriptor, bytes), limitMs);
      if ('ip' in address) socket.#tuneTcp();
      return socket;
    } catch (error) {
      socket.close();
      throw error;
    }
  }

  /** A netlink socket of a protocol, with a port of its own. @throws StoreError `E_SYSTEM` */
  static netlink(protocol: number): RawSocket {
    const socket = RawSocket.#make(AF_NETLINK, SOCK_RAW, protocol);
    const address = Buffer.alloc(12);
    address.writeUInt16LE(AF_NETLINK, 0);
    const bound = calls().bind(socket.descriptor, address);
    if (bound === 0) return socket;
    socket.close();
    throw new StoreError('E_SYSTEM', `Cannot bind a netlink socket: ${errnoText(-bound)}`);
  }

  static #make(family: number, type: number, protocol: number): RawSocket {
    const descriptor = calls().socket(family, type | SOCK_NONBLOCK_CLOEXEC, protocol);
    if (descriptor >= 0) return new RawSocket(descriptor);
    throw new StoreError('E_SYSTEM', `Cannot make a socket: ${errnoText(-descriptor)}`);
  }

  /** setsockopt with a whole number. @throws StoreError `E_SYSTEM` */
  setOption(level: number, name: number, value: number): void {
    const bytes = Buffer.alloc(4);
    bytes.writeInt32LE(value);
    const result = calls().setOption(this.descriptor, level, name, bytes);
    if (result !== 0)
      throw new StoreError('E_SYSTEM', `Cannot set a socket option: ${errnoText(-result)}`);
  }

  /** Sends all of `bytes`. @throws StoreError `E_SYSTEM`, or `E_TIMEOUT` */
  async send(bytes: Buffer, limitMs: number): Promise<void> {
    const endMs = performance.now() + limitMs;
    for (let sent = 0; sent < bytes.length;) {
      const result = calls().send(this.descriptor, bytes.subarray(sent), MSG_NOSIGNAL);
      if (result >= 0) sent += result;
      else if (result === -EAGAIN) await this.#ready(POLL.OUT, endMs);
      else if (result !== -EINTR)
        throw new StoreError('E_SYSTEM', `Sending failed: ${errnoText(-result)}`);
    }
  }

  /** Exactly `count` bytes. @throws StoreError `E_CLOSED` if the stream ends before, `E_SYSTEM`, `E_TIMEOUT` */
  async receiveExactly(count: number, limitMs: number): Promise<Buffer> {
    const endMs = performance.now() + limitMs;
    const bytes = Buffer.alloc(count);
    for (let got = 0; got < count;) {
      const result = await this.#receive(bytes.subarray(got), 0, endMs);
      if (result === 0) throw new StoreError('E_CLOSED', 'The other side closed the connection');
      got += result;
    }
    return bytes;
  }

  /** One message, whole. @throws StoreError `E_FORMAT` if it is longer than `maxBytes`, `E_SYSTEM`, `E_TIMEOUT` */
  async receiveMessage(maxBytes: number, limitMs: number): Promise<Buffer> {
    const bytes = Buffer.alloc(maxBytes);
    const count = await this.#receive(bytes, MSG_TRUNC, performance.now() + limitMs);
    if (count > maxBytes)
      throw new StoreError('E_FORMAT', `A message of ${count} bytes, more than ${maxBytes}`);
    return bytes.subarray(0, count);
  }

  close(): void {
    if (!this.#open) return; // its number may belong to somebody else by now
    this.#open = false;
    calls().close(this.descriptor);
  }

  async #receive(target: Buffer, flags: number, endMs: number): Promise<number> {
    for (;;) {
      const result = calls().receive(this.descriptor, target, flags);
      if (result >= 0) return result;
      if (result === -EAGAIN) await this.#ready(POLL.IN, endMs);
      else if (result !== -EINTR)
        throw new StoreError('E_SYSTEM', `Receiving failed: ${errnoText(-result)}`);
    }
  }

  async #finishConnect(result: number, limitMs: number): Promise<void> {
    if (result === 0) return;
    let errno = -result;
    if (errno === EINPROGRESS) {
      await this.#ready(POLL.OUT, performance.now() + limitMs);
      errno = calls().pendingError(this.descriptor);
    }
    // A Unix socket whose queue of waiting clients is full says EAGAIN at once.
    if (errno === EAGAIN)
      throw new StoreError('E_SYSTEM', 'Cannot connect: too many clients wait there (EAGAIN)');
    if (errno !== 0) throw new StoreError('E_SYSTEM', `Cannot connect: ${errnoText(errno)}`);
  }

  async #ready(event: number, endMs: number): Promise<void> {
    const leftMs = endMs - performance.now();
    const [seen = 0] =
      leftMs > 0 ? await pollSockets([{ socket: this, events: event }], leftMs) : [];
    if (seen === 0) throw new StoreError('E_TIMEOUT', 'No answer in time');
  }

  #tuneTcp(): void {
    this.setOption(IPPROTO_TCP, TCP_NODELAY, 1);
    this.setOption(SOL_SOCKET, SO_KEEPALIVE, 1);
    this.setOption(IPPROTO_TCP, TCP_KEEPIDLE, 10);
    this.setOption(IPPROTO_TCP, TCP_KEEPINTVL, 5);
    this.setOption(IPPROTO_TCP, TCP_KEEPCNT, 4);
  }
}

/**
 * Waits until something happens on one of the sockets, `limitMs` at most.
 * @returns For each of them the `POLL` bits that are so; all 0 if the time is over
 */
export async function pollSockets(
  wanted: readonly { socket: RawSocket; events: number }[],
  limitMs: number,
): Promise<number[]> {
  const table = Buffer.alloc(wanted.length * POLLFD_BYTES);
  wanted.forEach(({ socket, events }, index) => {
    table.writeInt32LE(socket.descriptor, index * POLLFD_BYTES);
    table.writeUInt16LE(events, index * POLLFD_BYTES + 4);
  });
  const count = await calls().poll(table, wanted.length, Math.max(1, Math.ceil(limitMs)));
  // errno is the worker thread's; a signal (EINTR) is what can be, and is as if the time were over
  return wanted.map((_, index) => (count > 0 ? table.readUInt16LE(index * POLLFD_BYTES + 6) : 0));
}

function encodeAddress(address: SocketAddress): { family: number; bytes: Buffer } {
  if ('path' in address) return { family: AF_UNIX, bytes: encodeUnix(address.path) };
  if (!isIPv6(address.ip)) {
    const bytes = Buffer.alloc(16);
    bytes.writeUInt16LE(AF_INET, 0);
    bytes.writeUInt16BE(address.port, 2);
    address.ip.split('.').forEach((part, index) => bytes.writeUInt8(Number(part), 4 + index));
    return { family: AF_INET, bytes };
  }
  const bytes = Buffer.alloc(28);
  bytes.writeUInt16LE(AF_INET6, 0);
  bytes.writeUInt16BE(address.port, 2);
  ipv6Groups(address.ip).forEach((group, index) => bytes.writeUInt16BE(group, 8 + 2 * index));
  return { family: AF_INET6, bytes };
}

function encodeUnix(path: string): Buffer {
  // An abstract name is as long as it says; a path ends with NUL.
  const name = Buffer.from(path.startsWith('\0') ? path : `${path}\0`);
  if (name.length > UNIX_PATH_BYTES_MAX)
    throw new StoreError(
      'E_INVALID',
      `The socket path is too long: the kernel takes at most ${UNIX_PATH_BYTES_MAX - 1} bytes`,
    );
  const family = Buffer.alloc(2);
  family.writeUInt16LE(AF_UNIX);
  return Buffer.concat([family, name]);
}

/** The eight groups of an IPv6 address. @throws StoreError `E_INVALID` for one with a zone */
function ipv6Groups(ip: string): number[] {
  if (ip.includes('%'))
    throw new StoreError('E_INVALID', `${ip}: addresses with a zone are not supported`);
  const plain = new URL(`http://[${ip}]`).hostname.slice(1, -1); // hexadecimal groups only
  const [head = '', tail] = plain.split('::');
  const groups = (text: string): number[] =>
    text === '' ? [] : text.split(':').map((group) => Number.parseInt(group, 16));
  if (tail === undefined) return groups(head);
  const [front, back] = [groups(head), groups(tail)];
  return [...front, ...new Array<number>(8 - front.length - back.length).fill(0), ...back];
}

/** Each returns what the system call returns, or -errno. */
interface Calls {
  socket(family: number, type: number, protocol: number): number;
  connect(fd: number, address: Buffer): number;
  bind(fd: number, address: Buffer): number;
  setOption(fd: number, level: number, name: number, value: Buffer): number;
  pendingError(fd: number): number;
  send(fd: number, bytes: Buffer, flags: number): number;
  receive(fd: number, target: Buffer, flags: number): number;
  close(fd: number): number;
  poll(table: Buffer, count: number, limitMs: number): Promise<number>;
}

let loaded: Calls | null = null;

function calls(): Calls {
  loaded ??= load();
  return loaded;
}

/** @throws StoreError `E_SYSTEM` where the system calls cannot be had */
function load(): Calls {
  const libc = process.platform === 'linux' ? loadLibrary('libc.so.6') : null;
  if (libc === null)
    throw new StoreError(
      'E_SYSTEM',
      'Raw sockets need Linux and the package koffi; run npm install, which fetches it',
    );
  type Call = (...parameters: (number | Buffer)[]) => number;
  // koffi has no types for functions made from a declaration
  const call = (declaration: string): Call => {
    const function_ = libc.func(declaration) as unknown as Call;
    return (...parameters) => {
      const result = function_(...parameters);
      return result < 0 ? -errno() : result;
    };
  };
  const connect = call('int connect(int, void *, uint32_t)');
  const bind = call('int bind(int, void *, uint32_t)');
  const setsockopt = call('int setsockopt(int, int, int, void *, uint32_t)');
  const getsockopt = call('int getsockopt(int, int, int, void *, void *)');
  const send = call('int64_t send(int, void *, uint64_t, int)');
  const recv = call('int64_t recv(int, void *, uint64_t, int)');
  type PollCall = {
    async(...parameters: [Buffer, number, number, (e: Error | null, result: number) => void]): void;
  };
  const poll = libc.func('int poll(void *, uint64_t, int)') as unknown as PollCall;
  return {
    socket: call('int socket(int, int, int)'),
    connect: (fd, address) => connect(fd, address, address.length),
    bind: (fd, address) => bind(fd, address, address.length),
    setOption: (fd, level, name, value) => setsockopt(fd, level, name, value, value.length),
    pendingError(fd) {
      const [value, bytes] = [Buffer.alloc(4), Buffer.from([4, 0, 0, 0])];
      const result = getsockopt(fd, SOL_SOCKET, SO_ERROR, value, bytes);
      return result < 0 ? -result : value.readInt32LE();
    },
    send: (fd, bytes, flags) => send(fd, bytes, bytes.length, flags),
    receive: (fd, target, flags) => recv(fd, target, target.length, flags),
    close: call('int close(int)'),
    poll: (table, count, limitMs) =>
      new Promise((resolve, reject) => {
        poll.async(table, count, limitMs, (error, result) => {
          if (error === null) resolve(result);
          else reject(error);
        });
      }),
  };
}

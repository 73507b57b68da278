/**
 * System calls on sockets that Node does not offer, through `koffi` (optional, like all of `real-native.ts`: without
 * it a server runs, but cannot hand its sockets to another process). Structures are those of 64-bit Linux.
 *
 * Nothing here waits: sockets made here are non-blocking. Results are those of the system call, or -errno.
 */
import { getSystemErrorName } from 'node:util';
import { StoreError } from '../util/errors.js';
import { addressOf, errno, loadLibrary } from '../util/native-library.js';

const AF_UNIX = 1;
const SOL_SOCKET = 1;
const SO_PEERCRED = 17;
const F_DUPFD_CLOEXEC = 1030;
const SOCK_NONBLOCK_CLOEXEC = 0o4000 | 0o2000000;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
/** Received descriptors are not for programs we start. */
const MSG_CMSG_CLOEXEC = 0x40000000;
const SHUT_RD = 0;

// struct sockaddr_un: family u16, then the path
const AT_PATH = 2;
const SOCKADDR_UN_BYTES = 110;
/** `sun_path` has 108 bytes with its terminating zero. */
export const UNIX_PATH_BYTES_MAX = 107;

// struct msghdr; the fields not named stay zero
const AT_IOV = 16; //            8  pointer
const AT_IOV_COUNT = 24; //      8
const AT_CONTROL = 32; //        8  pointer
const AT_CONTROL_BYTES = 40; //  8
const AT_MESSAGE_FLAGS = 48; //  4
const MSGHDR_BYTES = 56;
// struct iovec: pointer, length
const IOVEC_BYTES = 16;

export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;

/** Who is at the other end of a Unix socket. */
export interface PeerProcess {
  readonly pid: number;
  readonly uid: number;
}

/** What one `recvmsg` brought: `bytes` is its result, or -errno. */
export interface ReceivedMessage {
  readonly bytes: number;
  readonly controlBytes: number;
  readonly flags: number;
}

export interface SocketCalls {
  /** A Unix socket. @returns Its descriptor */
  unixSocket(type: number): number;
  /** `path` as for `connectUnix`; the file gets the permissions that the umask leaves. */
  bindUnix(descriptor: number, path: string): number;
  /** `path` has at most `UNIX_PATH_BYTES_MAX` bytes; one that begins with NUL is abstract, without a file. */
  connectUnix(descriptor: number, path: string): number;
  /** A second descriptor of the same socket, closed in programs we start. */
  duplicate(descriptor: number): number;
  close(descriptor: number): number;
  /** Nothing more is received: the peer's next send fails with EPIPE. What it sent before can still be read. */
  endReceiving(descriptor: number): number;
  peer(descriptor: number): PeerProcess | null;
  /** The path that a Unix socket is bound to, `@…` if it has no file; null if it is none, or nameless. */
  boundPath(descriptor: number): string | null;
  /** `control` may be empty. */
  send(descriptor: number, bytes: Buffer, control: Buffer): number;
  receive(descriptor: number, bytes: Buffer, control: Buffer): ReceivedMessage;
}

let loaded: SocketCalls | null | undefined;

/** The system calls, or null where they cannot be had. */
export function socketCalls(): SocketCalls | null {
  if (loaded === undefined)
    loaded =
      process.platform === 'linux' && ['x64', 'arm64'].includes(process.arch) ? load() : null;
  return loaded;
}

/** As {@link socketCalls}. @throws StoreError `E_SYSTEM` where they cannot be had */
export function needSocketCalls(what: string): SocketCalls {
  const calls = socketCalls();
  if (calls === null)
    throw new StoreError(
      'E_SYSTEM',
      `${what} needs the npm package koffi, on Linux on x64 or arm64; install the packages again`,
    );
  return calls;
}

/** The number of a failed call as an error that Node would throw. */
export function systemError(what: string, result: number): NodeJS.ErrnoException {
  const code = getSystemErrorName(result);
  return Object.assign(new Error(`${what}: ${code}`), { code, errno: result });
}

/** Closes a descriptor that nobody wants. */
export function closeDescriptor(descriptor: number): void {
  needSocketCalls('Closing a descriptor').close(descriptor);
}

/**
 * A second descriptor of the same socket, which belongs to the caller.
 * @throws StoreError `E_SYSTEM`
 */
export function duplicateDescriptor(descriptor: number): number {
  const copy = needSocketCalls('Passing on a socket').duplicate(descriptor);
  if (copy < 0)
    throw new StoreError(
      'E_SYSTEM',
      `A socket could not be duplicated: ${getSystemErrorName(copy)}`,
    );
  return copy;
}

/** @returns struct sockaddr_un, as long as it has to be */
function unixAddress(path: string): Buffer {
  const name = Buffer.from(path);
  const isAbstract = path.startsWith('\0');
  const address = Buffer.alloc(AT_PATH + name.length + (isAbstract ? 0 : 1));
  address.writeUInt16LE(AF_UNIX, 0);
  name.copy(address, AT_PATH);
  return address;
}

function load(): SocketCalls | null {
  const libc = loadLibrary('libc.so.6');
  if (libc === null) return null; // who needs it says so
  // koffi has no types for functions made from a declaration; these are theirs
  type Call<T extends unknown[]> = (...parameters: T) => number;
  const call = <T extends unknown[]>(declaration: string): Call<T> => {
    const raw = libc.func(declaration) as unknown as Call<T>;
    return (...parameters) => {
      const result = raw(...parameters);
      return result < 0 ? -errno() : result;
    };
  };
  const socket = call<[number, number, number]>('int socket(int, int, int)');
  const bind = call<[number, Buffer, number]>('int bind(int, void *, int)');
  const connect = call<[number, Buffer, number]>('int connect(int, void *, int)');
  const fcntl = call<[number, number, string, number]>('int fcntl(int, int, ...)');
  const close = call<[number]>('int close(int)');
  const shutdown = call<[number, number]>('int shutdown(int, int)');
  const getsockopt = call<[number, number, number, Buffer, Buffer]>(
    'int getsockopt(int, int, int, void *, void *)',
  );
  const getsockname = call<[number, Buffer, Buffer]>('int getsockname(int, void *, void *)');
  const sendmsg = call<[number, Buffer, number]>('int64_t sendmsg(int, void *, int)');
  const recvmsg = call<[number, Buffer, number]>('int64_t recvmsg(int, void *, int)');

  const vector = Buffer.alloc(IOVEC_BYTES);
  const header = Buffer.alloc(MSGHDR_BYTES);
  /** The calls are synchronous, so one header serves all. */
  const prepare = (bytes: Buffer, control: Buffer): Buffer => {
    vector.writeBigUInt64LE(BigInt(addressOf(bytes)), 0);
    vector.writeBigUInt64LE(BigInt(bytes.length), 8);
    header.fill(0);
    header.writeBigUInt64LE(BigInt(addressOf(vector)), AT_IOV);
    header.writeUInt32LE(1, AT_IOV_COUNT);
    if (control.length > 0) {
      header.writeBigUInt64LE(BigInt(addressOf(control)), AT_CONTROL);
      header.writeUInt32LE(control.length, AT_CONTROL_BYTES);
    }
    return header;
  };
  const withLength = (bytes: number): Buffer => {
    const length = Buffer.alloc(4);
    length.writeUInt32LE(bytes);
    return length;
  };

  return {
    unixSocket: (type) => socket(AF_UNIX, type | SOCK_NONBLOCK_CLOEXEC, 0),
    bindUnix(descriptor, path) {
      const address = unixAddress(path);
      return bind(descriptor, address, address.length);
    },
    connectUnix(descriptor, path) {
      const address = unixAddress(path);
      return connect(descriptor, address, address.length);
    },
    duplicate: (descriptor) => fcntl(descriptor, F_DUPFD_CLOEXEC, 'int', 3),
    close: (descriptor) => close(descriptor),
    endReceiving: (descriptor) => shutdown(descriptor, SHUT_RD),
    peer(descriptor) {
      const credentials = Buffer.alloc(12); // pid, uid, gid
      const bytes = withLength(credentials.length);
      if (getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, credentials, bytes) < 0) return null;
      return { pid: credentials.readInt32LE(0), uid: credentials.readUInt32LE(4) };
    },
    boundPath(descriptor) {
      const address = Buffer.alloc(SOCKADDR_UN_BYTES);
      const length = withLength(address.length);
      if (getsockname(descriptor, address, length) < 0) return null;
      if (address.readUInt16LE(0) !== AF_UNIX) return null;
      const name = address.subarray(AT_PATH, length.readUInt32LE(0));
      if (name.length === 0) return null;
      if (name[0] === 0) return `@${name.toString('utf8', 1)}`;
      const end = name.indexOf(0);
      return name.toString('utf8', 0, end < 0 ? name.length : end);
    },
    send: (descriptor, bytes, control) =>
      sendmsg(descriptor, prepare(bytes, control), MSG_NOSIGNAL | MSG_DONTWAIT),
    receive(descriptor, bytes, control) {
      const message = prepare(bytes, control);
      const count = recvmsg(descriptor, message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
      return {
        bytes: count,
        controlBytes: Math.min(control.length, message.readUInt32LE(AT_CONTROL_BYTES)),
        flags: message.readInt32LE(AT_MESSAGE_FLAGS),
      };
    },
  };
}

/**
 * Opens one connection to an NBD server up to the point where the kernel takes over: fixed newstyle, NBD_OPT_GO, and
 * nothing that changes the form of replies, because the kernel speaks simple replies only.
 */
import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import { messageOf, RawSocket, StoreError, type SocketAddress } from '@store/core';
import {
  NBD_FLAG_C_FIXED_NEWSTYLE,
  NBD_FLAG_C_NO_ZEROES,
  NBD_FLAG_FIXED_NEWSTYLE,
  NBD_FLAG_NO_ZEROES,
  NBD_INFO,
  NBD_MAGIC,
  NBD_OPT,
  NBD_REP,
  type NbdUri,
} from '@store/gateway-nbd';

/** What a server says of an export. */
export interface ExportFacts {
  readonly sizeBytes: number;
  /** Transmission flags. */
  readonly flags: number;
  /** The smallest request it takes; 1 if it does not say. */
  readonly blockBytesMin: number;
  /** The largest payload it takes; null if it does not say. */
  readonly payloadBytesMax: number | null;
}

export interface Dialled {
  readonly socket: RawSocket;
  readonly facts: ExportFacts;
}

const REPLY_BYTES_MAX = 64 * 1024;
const REPLIES_MAX = 64;
const ERROR_FLAG = 2 ** 31;

/**
 * @param limitMs - For all of it: names, connecting, handshake.
 * @returns A socket on which requests can be sent; whoever asked for it closes it
 * @throws StoreError `E_SYSTEM` or `E_TIMEOUT` if the server cannot be reached, `E_NOT_FOUND` if it has no such
 *   export, `E_FORMAT` if it is no NBD server we understand
 */
export async function dialNbd(uri: NbdUri, limitMs: number): Promise<Dialled> {
  const endMs = performance.now() + limitMs;
  const left = (): number => Math.max(1, endMs - performance.now());
  const socket = await connect(uri, left);
  try {
    return { socket, facts: await shakeHands(socket, uri.exportName, left) };
  } catch (error) {
    socket.close();
    if (error instanceof StoreError && error.code === 'E_TIMEOUT')
      throw new StoreError(
        'E_TIMEOUT',
        `${where(uri)} does not answer as an NBD server does; is it one?`,
        { cause: error },
      );
    throw error;
  }
}

/** The address of a URI, for messages. */
export function where(uri: NbdUri): string {
  if ('path' in uri.address) return uri.address.path.replace(/^\0/, '@');
  const { host, port } = uri.address;
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

async function connect(uri: NbdUri, left: () => number): Promise<RawSocket> {
  const problems: string[] = [];
  for (const address of await addressesOf(uri, left)) {
    try {
      return await RawSocket.connect(address, left());
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      problems.push(error.message);
    }
  }
  throw new StoreError(
    'E_SYSTEM',
    `${where(uri)}: ${[...new Set(problems)].join(', ')}; is the server running there?`,
  );
}

async function addressesOf({ address }: NbdUri, left: () => number): Promise<SocketAddress[]> {
  if ('path' in address) return [address];
  const { host, port } = address;
  if (isIP(host) !== 0) return [{ ip: host, port }];
  let timer: NodeJS.Timeout | undefined;
  try {
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error('no answer in time')), left());
    });
    const found = await Promise.race([lookup(host, { all: true }), late]);
    return found.map(({ address: ip }) => ({ ip, port }));
  } catch (error) {
    throw new StoreError('E_SYSTEM', `The host ${host} is not known: ${messageOf(error)}`, {
      cause: error,
    });
  } finally {
    clearTimeout(timer);
  }
}

async function shakeHands(
  socket: RawSocket,
  exportName: string,
  left: () => number,
): Promise<ExportFacts> {
  const greeting = await socket.receiveExactly(18, left());
  const isNewstyle =
    greeting.readUInt32BE(0) === NBD_MAGIC.INIT_PASSWD_HIGH &&
    greeting.readUInt32BE(4) === NBD_MAGIC.INIT_PASSWD_LOW &&
    greeting.readUInt32BE(8) === NBD_MAGIC.IHAVEOPT_HIGH &&
    greeting.readUInt32BE(12) === NBD_MAGIC.IHAVEOPT_LOW;
  const serverFlags = greeting.readUInt16BE(16);
  if (!isNewstyle || (serverFlags & NBD_FLAG_FIXED_NEWSTYLE) === 0)
    throw new StoreError('E_FORMAT', 'What listens there is no NBD server of the fixed newstyle');
  const noZeroes = (serverFlags & NBD_FLAG_NO_ZEROES) === 0 ? 0 : NBD_FLAG_C_NO_ZEROES;
  await socket.send(
    Buffer.concat([
      u32(NBD_FLAG_C_FIXED_NEWSTYLE | noZeroes),
      encodeGo(exportName, [NBD_INFO.BLOCK_SIZE]),
    ]),
    left(),
  );
  let facts: Partial<ExportFacts> = {};
  for (let count = 0; count < REPLIES_MAX; count += 1) {
    const { type, data } = await readReply(socket, left);
    if (type >= ERROR_FLAG) throw refusal(type, data, exportName);
    if (type === NBD_REP.INFO) facts = { ...facts, ...decodeInfo(data) };
    else if (type !== NBD_REP.ACK)
      throw new StoreError('E_FORMAT', `The server answered GO with a reply of type ${type}`);
    else return complete(facts);
  }
  throw new StoreError('E_FORMAT', `The server answered GO with more than ${REPLIES_MAX} replies`);
}

async function readReply(
  socket: RawSocket,
  left: () => number,
): Promise<{ type: number; data: Buffer }> {
  const header = await socket.receiveExactly(20, left());
  if (
    header.readUInt32BE(0) !== NBD_MAGIC.OPTION_REPLY_HIGH ||
    header.readUInt32BE(4) !== NBD_MAGIC.OPTION_REPLY_LOW ||
    header.readUInt32BE(8) !== NBD_OPT.GO
  )
    throw new StoreError('E_FORMAT', 'The server sent something that is no reply to GO');
  const bytes = header.readUInt32BE(16);
  if (bytes > REPLY_BYTES_MAX)
    throw new StoreError('E_FORMAT', `The server sent a reply of ${bytes} bytes to GO`);
  return { type: header.readUInt32BE(12), data: await socket.receiveExactly(bytes, left()) };
}

function decodeInfo(data: Buffer): Partial<ExportFacts> {
  if (data.length < 2) throw new StoreError('E_FORMAT', 'The server sent an info without a type');
  const type = data.readUInt16BE(0);
  if (type === NBD_INFO.EXPORT && data.length === 12) {
    const sizeBytes = data.readBigUInt64BE(2);
    if (sizeBytes > BigInt(Number.MAX_SAFE_INTEGER))
      throw new StoreError('E_FORMAT', `The export claims ${sizeBytes.toString()} bytes`);
    return { sizeBytes: Number(sizeBytes), flags: data.readUInt16BE(10) };
  }
  if (type === NBD_INFO.BLOCK_SIZE && data.length === 14)
    return { blockBytesMin: data.readUInt32BE(2), payloadBytesMax: data.readUInt32BE(10) };
  return {}; // others mean nothing here
}

function complete(facts: Partial<ExportFacts>): ExportFacts {
  const { sizeBytes, flags } = facts;
  if (sizeBytes === undefined || flags === undefined)
    throw new StoreError('E_FORMAT', 'The server did not say how large the export is');
  return { blockBytesMin: 1, payloadBytesMax: null, ...facts, sizeBytes, flags };
}

function refusal(type: number, data: Buffer, exportName: string): StoreError {
  const said = data
    .toString('utf8')
    .replace(/\p{Cc}+/gu, ' ')
    .slice(0, 500);
  const words = said === '' ? '' : ` (it says: ${said})`;
  const name = exportName === '' ? 'no default export' : `no export '${exportName}'`;
  if (type === NBD_REP.ERR_UNKNOWN)
    return new StoreError('E_NOT_FOUND', `The server has ${name}${words}; name one of its exports`);
  if (type === NBD_REP.ERR_TLS_REQD)
    return new StoreError(
      'E_SYSTEM',
      "The server insists on TLS, which the kernel's client does not speak; use nbdfuse, QEMU or a tunnel",
    );
  if (type === NBD_REP.ERR_SHUTDOWN)
    return new StoreError('E_CLOSED', `The server is shutting down${words}`);
  if (type === NBD_REP.ERR_UNSUP)
    return new StoreError('E_FORMAT', 'The server does not know NBD_OPT_GO; it is too old');
  return new StoreError('E_SYSTEM', `The server refused (error ${type - ERROR_FLAG})${words}`);
}

function encodeGo(name: string, infos: readonly number[]): Buffer {
  const bytes = Buffer.from(name);
  const data = Buffer.alloc(6 + bytes.length + 2 * infos.length);
  data.writeUInt32BE(bytes.length, 0);
  bytes.copy(data, 4);
  data.writeUInt16BE(infos.length, 4 + bytes.length);
  infos.forEach((info, index) => data.writeUInt16BE(info, 6 + bytes.length + 2 * index));
  const magic = [u32(NBD_MAGIC.IHAVEOPT_HIGH), u32(NBD_MAGIC.IHAVEOPT_LOW)];
  return Buffer.concat([...magic, u32(NBD_OPT.GO), u32(data.length), data]);
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/**
 * UDP sockets of the real machine, on node:dgram. Datagrams get lost anyway, so what the system refuses is lost too:
 * only a socket that can do nothing any more fails.
 */
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { lookup } from 'node:dns/promises';
import { isIPv4 } from 'node:net';
import { errnoOf, messageOf, StoreError } from '../util/errors.js';
import { invariant } from '../util/invariant.js';
import { DATAGRAM_BYTES_MAX } from '../util/limits.js';
import type { DatagramAddress, DatagramEvents, DatagramSocket } from './network.js';
import { addressText, portAdvice } from './real-address-advice.js';

/** Asked of the system, which gives what it allows: bursts of large datagrams do not fit its default. */
const SOCKET_BUFFER_BYTES: number = 4 * 1024 * 1024;
/** What may wait in this process for room in the socket; more is lost. */
const QUEUED_BYTES_MAX: number = 1024 * 1024;
/** How an IPv6 socket writes IPv4 addresses. */
const MAPPED = '::ffff:';
/** News about a datagram sent earlier, which is lost; the socket goes on. */
const LOST_ONE: ReadonlySet<string | undefined> = new Set([
  ...['ECONNREFUSED', 'ECONNRESET', 'EHOSTUNREACH', 'ENETUNREACH', 'EHOSTDOWN', 'ENETDOWN'],
  ...['EMSGSIZE', 'EPERM', 'EACCES', 'ENOBUFS', 'ENOMEM', 'EAGAIN', 'EINTR'],
]);

/** See `Network.openDatagrams`. */
export async function openDatagrams(
  asked: DatagramAddress,
  events: DatagramEvents,
): Promise<DatagramSocket> {
  const { host, port } = asked;
  // Node would take the rest of a division for the port.
  if (host === '' || !Number.isInteger(port) || port < 0 || port > 65_535)
    throw new StoreError(
      'E_INVALID',
      `Cannot open UDP ${addressText(asked)}: give a host and a port from 0 to 65535`,
    );
  try {
    const { address, family } = await lookup(host);
    const socket = createSocket({
      type: family === 6 ? 'udp6' : 'udp4',
      // Only addresses come here. Answered at once, so that `send` sends before it returns.
      lookup: (ip, _options, found) => found(null, ip, family),
    });
    await bound(socket, address, port);
    for (const enlarge of [
      () => socket.setRecvBufferSize(SOCKET_BUFFER_BYTES),
      () => socket.setSendBufferSize(SOCKET_BUFFER_BYTES),
    ])
      tryTo(enlarge);
    return new RealDatagramSocket(socket, family === 6, events);
  } catch (error) {
    throw new StoreError(
      'E_SYSTEM',
      `Cannot open UDP ${addressText(asked)}: ${portAdvice(error)}`,
      { cause: error },
    );
  }
}

/** Only how much a burst loses depends on it. */
function tryTo(enlarge: () => void): void {
  try {
    enlarge();
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
  }
}

function bound(socket: Socket, address: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const fail = (error: Error): void => {
      socket.close();
      reject(error);
    };
    socket.once('error', fail);
    socket.bind({ address, port, exclusive: true }, () => {
      socket.removeListener('error', fail);
      resolve();
    });
  });
}

class RealDatagramSocket implements DatagramSocket {
  readonly address: DatagramAddress;
  readonly #socket: Socket;
  readonly #isIPv6: boolean;
  #isOpen = true;

  constructor(socket: Socket, isIPv6: boolean, events: DatagramEvents) {
    const { address: host, port } = socket.address();
    this.address = { host, port };
    this.#socket = socket;
    this.#isIPv6 = isIPv6;
    // Node receives each datagram in memory of its own.
    socket.on('message', (datagram: Buffer, from: RemoteInfo) => {
      if (this.#isOpen) events.received(datagram, this.#sender(from));
    });
    socket.on('error', (error) => {
      if (!this.#isOpen || LOST_ONE.has(errnoOf(error))) return;
      this.close();
      events.failed(
        new StoreError('E_SYSTEM', `A UDP socket failed: ${messageOf(error)}`, { cause: error }),
      );
    });
  }

  /** The same machine has the same address, whichever kind of socket hears it. */
  #sender({ address, port }: RemoteInfo): DatagramAddress {
    const isMapped = this.#isIPv6 && address.startsWith(MAPPED);
    const plain = isMapped ? address.slice(MAPPED.length) : address;
    return { host: isMapped && isIPv4(plain) ? plain : address, port };
  }

  send(parts: readonly Buffer[], to: DatagramAddress): void {
    let bytes = 0;
    for (const part of parts) bytes += part.length;
    invariant(bytes <= DATAGRAM_BYTES_MAX, 'a datagram is longer than UDP carries');
    // A sender may give 0 as its port: it wants no answer, and there is nowhere to send one.
    if (!this.#isOpen || to.port === 0) return;
    if (this.#socket.getSendQueueSize() + bytes > QUEUED_BYTES_MAX) return;
    const host = this.#isIPv6 && isIPv4(to.host) ? MAPPED + to.host : to.host;
    // A copy: when the socket is full Node keeps what it was given until there is room, and does not say so.
    this.#socket.send(Buffer.concat(parts, bytes), to.port, host);
  }

  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#socket.close();
  }
}

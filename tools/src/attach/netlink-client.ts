/**
 * Talks to the kernel's NBD driver. Requests go one at a time, each with a deadline; events come over a socket of
 * their own, so that none is taken for an answer.
 */
import { errnoText, RawSocket, StoreError } from '@store/core';
import {
  decodeAnswer,
  decodeMessages,
  encodeRequest,
  NETLINK_TYPE,
  type NetlinkMessage,
} from './netlink-message.js';
import {
  CONTROLLER,
  decodeFamily,
  decodeIndex,
  decodeStatus,
  encodeConnect,
  encodeGetFamily,
  encodeIndex,
  encodeReconfigure,
  NBD_EVENTS_GROUP,
  NBD_FAMILY,
  NBD_FAMILY_VERSION,
  NBD_NETLINK,
  type NbdDeviceConfig,
} from './netlink-nbd.js';

const NETLINK_GENERIC = 16;
const SOL_NETLINK = 270;
const NETLINK_ADD_MEMBERSHIP = 1;
const NETLINK_CAP_ACK = 10;
const NETLINK_EXT_ACK = 11;
/** A status of thousands of devices fits. */
const MESSAGE_BYTES_MAX = 256 * 1024;
/** The kernel answers at once, except while it waits for the last requests of a device it disconnects. */
const ANSWER_MS = 30_000;
const EVENTS_AT_ONCE_MAX = 64;
const EBUSY = 16;
const ENOENT = 2;
const EPERM = 1;
const EINVAL = 22;

/** The kernel refused; `errno` says why in its way. */
export class KernelRefusal extends StoreError {
  readonly errno: number;

  constructor(what: string, errno: number, text: string | null) {
    super(errno === EBUSY ? 'E_IN_USE' : 'E_SYSTEM', `${what}: ${text ?? refusalText(errno)}`);
    this.errno = errno;
  }
}

export class NbdNetlink {
  readonly #socket: RawSocket;
  readonly #family: number;
  readonly #groups: ReadonlyMap<string, number>;
  #sequence = 1;

  private constructor(socket: RawSocket, family: number, groups: ReadonlyMap<string, number>) {
    this.#socket = socket;
    this.#family = family;
    this.#groups = groups;
  }

  /** @throws StoreError `E_NOT_FOUND` if the kernel's module is not loaded */
  static async open(): Promise<NbdNetlink> {
    const socket = RawSocket.netlink(NETLINK_GENERIC);
    try {
      socket.setOption(SOL_NETLINK, NETLINK_CAP_ACK, 1);
      socket.setOption(SOL_NETLINK, NETLINK_EXT_ACK, 1);
      const controller = new NbdNetlink(socket, CONTROLLER.family, new Map());
      const [answer] = await controller.#request(
        'Looking for the nbd driver',
        { command: CONTROLLER.getFamily, version: CONTROLLER.version },
        encodeGetFamily(NBD_FAMILY),
      );
      if (answer === undefined) throw new StoreError('E_SYSTEM', 'The kernel named no family');
      const { id, groups } = decodeFamily(answer);
      return new NbdNetlink(socket, id, groups);
    } catch (error) {
      socket.close();
      if (error instanceof KernelRefusal && error.errno === ENOENT)
        throw new StoreError(
          'E_NOT_FOUND',
          "The kernel's nbd module is not loaded; run modprobe nbd, or use nbdfuse where the kernel has none",
          { cause: error },
        );
      throw error;
    }
  }

  /** Sets up a device. @returns Its index. @throws KernelRefusal */
  async connect(config: NbdDeviceConfig): Promise<number> {
    const what =
      config.index === null ? 'No device could be set up' : `Cannot set up nbd${config.index}`;
    const answers = await this.#send(what, NBD_NETLINK.CONNECT, encodeConnect(config));
    const answer = answers.map(decodeIndex).find(({ command }) => command === NBD_NETLINK.CONNECT);
    if (answer === undefined) throw new StoreError('E_SYSTEM', 'The kernel named no device');
    return answer.index;
  }

  /** Puts new sockets in the place of dead ones. @throws KernelRefusal */
  async reconfigure(
    index: number,
    identifier: string,
    sockets: readonly RawSocket[],
  ): Promise<void> {
    const descriptors = sockets.map(({ descriptor }) => descriptor);
    const attributes = encodeReconfigure(index, identifier, descriptors);
    await this.#send(`nbd${index} took no new links`, NBD_NETLINK.RECONFIGURE, attributes);
  }

  /** Ends a device; what is in flight fails. @throws KernelRefusal */
  async disconnect(index: number): Promise<void> {
    await this.#send(`Cannot detach nbd${index}`, NBD_NETLINK.DISCONNECT, encodeIndex(index));
  }

  /** Which devices are set up. @throws KernelRefusal */
  async status(): Promise<ReadonlySet<number>> {
    const answers = await this.#send('No status of the devices', NBD_NETLINK.STATUS, []);
    const devices = answers.flatMap(decodeStatus);
    return new Set(devices.filter(({ connected }) => connected).map(({ index }) => index));
  }

  /** A socket on which {@link readLinkDeaths} finds events. Whoever asked for it closes it. */
  openEvents(): RawSocket {
    const group = this.#groups.get(NBD_EVENTS_GROUP);
    if (group === undefined)
      throw new StoreError(
        'E_SYSTEM',
        `This kernel's nbd module tells of no events; it is too old`,
      );
    const events = RawSocket.netlink(NETLINK_GENERIC);
    events.setOption(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group);
    return events;
  }

  close(): void {
    this.#socket.close();
  }

  #send(what: string, command: number, attributes: readonly Buffer[]): Promise<NetlinkMessage[]> {
    return this.#request(what, { command, version: NBD_FAMILY_VERSION }, attributes);
  }

  /** @returns What came before the answer that ends the request */
  async #request(
    what: string,
    command: { command: number; version: number },
    attributes: readonly Buffer[],
  ): Promise<NetlinkMessage[]> {
    const sequence = this.#sequence++;
    const request = encodeRequest({ family: this.#family, sequence, ...command, attributes });
    const endMs = performance.now() + ANSWER_MS;
    await this.#socket.send(request, ANSWER_MS);
    const answers: NetlinkMessage[] = [];
    for (;;) {
      const leftMs = Math.max(1, endMs - performance.now());
      for (const message of decodeMessages(
        await this.#socket.receiveMessage(MESSAGE_BYTES_MAX, leftMs),
      )) {
        if (message.sequence !== sequence) continue; // of a request that was given up
        if (message.type !== NETLINK_TYPE.ERROR) answers.push(message);
        else {
          const { errno, text } = decodeAnswer(message);
          if (errno !== 0) throw new KernelRefusal(what, errno, text);
          return answers;
        }
      }
    }
  }
}

/**
 * The links of device `index` that have died since the last call.
 * @returns Their number; null if the kernel had to drop events, so that nobody knows
 */
export async function readLinkDeaths(events: RawSocket, index: number): Promise<number | null> {
  let deaths = 0;
  for (let round = 0; round < EVENTS_AT_ONCE_MAX; round += 1) {
    let bytes: Buffer;
    try {
      bytes = await events.receiveMessage(MESSAGE_BYTES_MAX, 1);
    } catch (error) {
      if (error instanceof StoreError && error.code === 'E_TIMEOUT') return deaths;
      if (error instanceof StoreError && error.code === 'E_SYSTEM') return null;
      throw error;
    }
    for (const message of decodeMessages(bytes)) {
      const event = decodeIndex(message);
      if (event.command === NBD_NETLINK.LINK_DEAD && event.index === index) deaths += 1;
    }
  }
  return deaths;
}

function refusalText(errno: number): string {
  if (errno === EPERM) return 'only root may; run it with sudo';
  if (errno === EBUSY) return 'it is in use; see what by: store-nbd ps';
  if (errno === EINVAL) return 'the kernel found it invalid (EINVAL); dmesg says more';
  return errnoText(errno);
}

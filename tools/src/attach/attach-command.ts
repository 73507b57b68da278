/** `store-nbd attach`: makes an export a block device of this machine, and stays to keep it one. */
import { formatSize, StoreError, type RawSocket } from '@store/core';
import { NBD_FLAG, parseNbdUri, type NbdUri } from '@store/gateway-nbd';
import { asUsage, type Context } from '../program.js';
import { SETTINGS } from '../settings.js';
import { UsageError } from '../usage-error.js';
import { ATTACH_SETTINGS } from './attach-settings.js';
import {
  isSupervised,
  readAttachment,
  readAttachments,
  removeAttachment,
  startTicksOf,
  writeAttachment,
  type Attachment,
} from './attachment-file.js';
import { factsChange } from './export-facts.js';
import { attachedDevice, deviceIndex, devicePath, queueNumber, setQueue } from './nbd-device.js';
import { dialNbd, where, type ExportFacts } from './nbd-dial.js';
import { NbdNetlink } from './netlink-client.js';
import { attachLines } from './print-lines.js';
import { Supervisor, type Supervised } from './supervisor.js';

const DIAL_MS = 10_000;
const SECTOR_BYTES = 512;
/** A slow server is waited for; several links have no such choice in the kernel, see {@link timeoutOf}. */
const SEVERAL_LINKS_TIMEOUT_SECONDS = 30;
/** How often the kernel looks whether a request of a single link must go to a new socket. */
const RESEND_LOOK_MS = 2000;

/** A device and our descriptors of the sockets it uses. */
interface Attached {
  readonly device: Supervised;
  readonly links: readonly RawSocket[];
}

export async function attach(context: Context, positional: readonly string[]): Promise<void> {
  const [text = '', deviceText] = positional;
  const uri = asUsage(() => parseNbdUri(text));
  for (const name of uri.unknown)
    context.log.warn({ parameter: name }, 'The URI has a parameter that means nothing here');
  const index = deviceText === undefined ? null : asUsage(() => deviceIndex(deviceText));
  if (uri.tls.required)
    throw new UsageError(
      "The kernel's NBD client does not speak TLS; use nbdfuse or QEMU (--print shows how), or a tunnel and an nbd: URI",
    );
  timeoutOf(context, context.get(ATTACH_SETTINGS.connections));
  for (const setting of Object.values(ATTACH_SETTINGS)) context.get(setting); // before anything is done
  if (process.getuid?.() !== 0)
    throw new StoreError('E_SYSTEM', 'Only root may attach devices; run it with sudo');
  const netlink = await NbdNetlink.open();
  try {
    const events = netlink.openEvents(); // before there is a link that could die
    try {
      await keep(context, { text, uri, index, netlink, events });
    } finally {
      events.close();
    }
  } finally {
    netlink.close();
  }
}

/** `attach --print`: the same in the words of other programs. */
export function printLines(context: Context, positional: readonly string[]): void {
  const [text = ''] = positional;
  const uri = asUsage(() => parseNbdUri(text));
  for (const setting of Object.values(ATTACH_SETTINGS)) context.get(setting); // a typo is said
  const connections = context.get(ATTACH_SETTINGS.connections);
  const readOnly = context.get(SETTINGS.readOnly);
  context.print(attachLines(uri, { connections, readOnly }, text));
}

interface Wanted {
  readonly text: string;
  readonly uri: NbdUri;
  readonly index: number | null;
  readonly netlink: NbdNetlink;
  readonly events: RawSocket;
}

async function keep(context: Context, wanted: Wanted): Promise<void> {
  const former = formerAttachment(wanted);
  const { device, links } = await (former === null
    ? setUp(context, wanted)
    : resume(context, wanted, former));
  const attachedAt = former?.attachedAt ?? context.env.clock.wallTime();
  const startTicks = startTicksOf(process.pid) ?? '';
  const supervisor = new Supervisor(device, links, {
    ...wanted,
    env: context.env,
    report: (state) => {
      const { index, identifier, connections, readOnly, facts } = device;
      const attachment: Attachment = {
        ...{ version: 1, index, uri: wanted.text, identifier, connections, ...state },
        ...{ sizeBytes: facts.sizeBytes, flags: facts.flags, readOnly, attachedAt },
        supervisor: { pid: process.pid, startTicks },
      };
      try {
        writeAttachment(attachment);
      } catch (error) {
        // The device matters more than what is written of it.
        context.log.warn({ err: error }, 'store-nbd ps will not know how the device is');
      }
    },
  });
  const path = devicePath(device.index);
  context.log.info(
    { device: path, size: formatSize(device.facts.sizeBytes), links: links.length },
    former === null ? 'Attached' : 'Going on with a device that was attached before',
  );
  context.print(context.get(SETTINGS.json) ? JSON.stringify({ device: path }) : path);
  const ended = await supervisor.run(context.stop);
  removeAttachment(device.index);
  context.log.info({ device: path }, ended === 'stopped' ? 'Detached' : 'Somebody detached it');
}

/** What a dead supervisor left of the same URI, if its device is still there. */
function formerAttachment({ index, text }: Wanted): Attachment | null {
  const candidates =
    index === null
      ? readAttachments().filter(({ uri }) => uri === text)
      : [readAttachment(index)].filter((one) => one !== null);
  for (const former of candidates) {
    const device = attachedDevice(former.index);
    if (device === null) continue; // it was detached since
    const path = devicePath(former.index);
    if (isSupervised(former)) {
      if (index === null) continue; // the same export may be attached twice, if that is asked for
      throw new StoreError(
        'E_IN_USE',
        `${path} is attached to ${former.uri} by process ${former.supervisor.pid}; detach it first with: store-nbd detach ${path}`,
      );
    }
    if (device.identifier !== null && device.identifier !== former.identifier) continue;
    if (former.uri === text) return former;
  }
  const device = index === null ? null : attachedDevice(index);
  if (device !== null)
    throw new StoreError(
      'E_IN_USE',
      `${devicePath(device.index)} is in use already${device.identifier === null ? '' : ` (${device.identifier})`}; name another device, or none to get the next free one`,
    );
  return null;
}

async function setUp(context: Context, wanted: Wanted): Promise<Attached> {
  const { uri, index, netlink, text: identifier } = wanted;
  const connections = context.get(ATTACH_SETTINGS.connections);
  const readOnly = context.get(SETTINGS.readOnly);
  const { links, facts } = await dialAll(uri, connections, readOnly, null);
  try {
    const blockBytes = blockBytesOf(context, facts);
    const timeoutSeconds = timeoutOf(context, connections);
    const deadTimeoutSeconds = context.get(ATTACH_SETTINGS.deadTimeout);
    const newIndex = await netlink.connect({
      ...{ index, sizeBytes: facts.sizeBytes, blockBytes, timeoutSeconds, deadTimeoutSeconds },
      serverFlags: facts.flags | (readOnly ? NBD_FLAG.READ_ONLY : 0),
      ...{ identifier, descriptors: links.map(({ descriptor }) => descriptor) },
    });
    try {
      if (timeoutSeconds === 0) setQueue(newIndex, 'io_timeout', RESEND_LOOK_MS);
      limitRequests(newIndex, facts);
    } catch (error) {
      await netlink.disconnect(newIndex);
      throw error;
    }
    const device = { index: newIndex, uri, identifier, connections, deadTimeoutSeconds, readOnly };
    return { device: { ...device, facts }, links };
  } catch (error) {
    for (const link of links) link.close();
    throw error;
  }
}

/** Gives the kernel new sockets for those that died while nobody was there; it ignores the ones it needs not. */
async function resume(context: Context, wanted: Wanted, former: Attachment): Promise<Attached> {
  const { index, identifier, connections, readOnly } = former;
  const { links } = await dialAll(wanted.uri, connections, readOnly, former);
  try {
    await wanted.netlink.reconfigure(index, identifier, links);
  } catch (error) {
    for (const link of links) link.close();
    throw error;
  }
  const deadTimeoutSeconds = context.get(ATTACH_SETTINGS.deadTimeout);
  const facts = { sizeBytes: former.sizeBytes, flags: former.flags };
  const { uri } = wanted;
  const device = { index, uri, identifier, connections, deadTimeoutSeconds, readOnly, facts };
  return { device, links };
}

/** @param before - What the export must still be; null: as the first connection finds it */
async function dialAll(
  uri: NbdUri,
  connections: number,
  readOnly: boolean,
  before: Pick<ExportFacts, 'sizeBytes' | 'flags'> | null,
): Promise<{ links: RawSocket[]; facts: ExportFacts }> {
  const { socket, facts } = await dialNbd(uri, DIAL_MS);
  const links = [socket];
  try {
    checkFacts(uri, facts, connections);
    const expected = before ?? facts;
    const check = (found: ExportFacts): void => {
      const change = factsChange(expected, found, readOnly);
      if (change !== null) throw new StoreError('E_INVALID', `It is another disk now: ${change}`);
    };
    check(facts);
    while (links.length < connections) {
      const next = await dialNbd(uri, DIAL_MS);
      links.push(next.socket);
      check(next.facts);
    }
    return { links, facts };
  } catch (error) {
    for (const link of links) link.close();
    throw error;
  }
}

function checkFacts(uri: NbdUri, facts: ExportFacts, connections: number): void {
  if (facts.sizeBytes < SECTOR_BYTES)
    throw new StoreError('E_INVALID', `The export has ${facts.sizeBytes} bytes: no disk`);
  if (connections > 1 && (facts.flags & NBD_FLAG.CAN_MULTI_CONN) === 0)
    throw new StoreError(
      'E_INVALID',
      `The server at ${where(uri)} does not allow several connections to one device; leave out --connections`,
    );
}

function blockBytesOf(context: Context, facts: ExportFacts): number {
  const blockBytes = context.get(ATTACH_SETTINGS.blockSize);
  if ((blockBytes & (blockBytes - 1)) !== 0)
    throw new UsageError(`Bad --block-size: ${blockBytes} is not a power of two`);
  if (blockBytes < facts.blockBytesMin)
    throw new UsageError(
      `The server takes no blocks below ${facts.blockBytesMin} bytes; add --block-size ${facts.blockBytesMin}`,
    );
  const tail = facts.sizeBytes % blockBytes;
  if (tail !== 0)
    context.log.warn(
      { bytes: tail, blockBytes },
      'The end of the export is no whole block: hidden',
    );
  return blockBytes;
}

/**
 * When an unanswered request makes the kernel give up its link. With a single link 0 means never: its requests are
 * sent again as soon as there is a new socket. With several the kernel always has such a time, and requests that were
 * in flight when a link died are sent again only when it is over.
 */
function timeoutOf(context: Context, connections: number): number {
  const seconds = context.get(ATTACH_SETTINGS.timeout);
  if (seconds === 0 && connections > 1)
    throw new UsageError('--timeout 0 needs a single connection; give at least 1s, or one link');
  return seconds ?? (connections === 1 ? 0 : SEVERAL_LINKS_TIMEOUT_SECONDS);
}

/** A request must not be larger than what the server takes as one payload. */
function limitRequests(index: number, { payloadBytesMax }: ExportFacts): void {
  if (payloadBytesMax === null) return;
  const now = queueNumber(index, 'max_sectors_kb');
  const most = Math.floor(payloadBytesMax / 1024);
  if (now !== null && most < now) setQueue(index, 'max_sectors_kb', most);
}

/** `store-nbd ps`: the NBD devices of this machine, whoever attached them. */
import { formatSize, StoreError } from '@store/core';
import type { Context } from '../program.js';
import { SETTINGS } from '../settings.js';
import { isSupervised, readAttachment, type Attachment } from './attachment-file.js';
import { attachedDevices, devicePath, type AttachedDevice } from './nbd-device.js';
import { NbdNetlink } from './netlink-client.js';

/** One device, as `--json` prints it. */
export interface DeviceRow {
  readonly device: string;
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  /** What the supervisor says; `unsupervised` if it is dead, `foreign` if there never was one of ours. */
  readonly state: Attachment['state'] | 'unsupervised' | 'foreign';
  readonly uri: string | null;
  readonly connections: number | null;
  readonly alive: number | null;
  readonly redials: number | null;
  readonly problem: string | null;
  /** The supervisor; of a foreign device the process that attached it. */
  readonly pid: number;
}

export async function ps(context: Context): Promise<void> {
  const connected = await connectedDevices(context);
  const rows = attachedDevices()
    .filter(({ index }) => connected === null || connected.has(index))
    .map((device) => rowOf(device, readAttachment(device.index)));
  if (context.get(SETTINGS.json)) context.print(JSON.stringify(rows));
  else if (rows.length === 0) context.print('No NBD device is attached');
  else context.print(table(rows));
}

/** What the kernel says is connected; null if it does not say. */
async function connectedDevices(context: Context): Promise<ReadonlySet<number> | null> {
  let netlink: NbdNetlink;
  try {
    netlink = await NbdNetlink.open();
  } catch (error) {
    if (!(error instanceof StoreError) || error.code !== 'E_NOT_FOUND') throw error;
    context.log.info(
      {},
      "The kernel's nbd module is not loaded; load it with modprobe nbd, or use nbdfuse where the kernel has none",
    );
    return null;
  }
  try {
    return await netlink.status();
  } finally {
    netlink.close();
  }
}

/** @param attachment - What was written down of a device of that number; it may be of an earlier life. */
export function rowOf(device: AttachedDevice, attachment: Attachment | null): DeviceRow {
  const isOurs =
    attachment !== null &&
    (device.identifier === null || device.identifier === attachment.identifier);
  const common = {
    device: devicePath(device.index),
    sizeBytes: device.sizeBytes,
    readOnly: device.readOnly,
  };
  if (!isOurs)
    return {
      ...common,
      ...{ state: 'foreign', uri: device.identifier, pid: device.pid },
      ...{ connections: null, alive: null, redials: null, problem: null },
    };
  const { uri, connections, alive, redials, problem, supervisor } = attachment;
  const supervised = isSupervised(attachment);
  return {
    ...common,
    ...{ state: supervised ? attachment.state : 'unsupervised', uri, connections, redials },
    alive: supervised ? alive : null,
    problem: supervised
      ? problem
      : `nobody redials; to go on: store-nbd attach '${uri}' ${common.device}`,
    pid: supervisor.pid,
  };
}

function table(rows: readonly DeviceRow[]): string {
  const lines = [
    ['DEVICE', 'SIZE', 'MODE', 'LINKS', 'STATE', 'PID', 'URI'],
    ...rows.map((row) => [
      row.device,
      formatSize(row.sizeBytes),
      row.readOnly ? 'ro' : 'rw',
      row.connections === null ? '-' : `${row.alive ?? '?'}/${row.connections}`,
      row.state,
      `${row.pid}`,
      row.uri ?? '-',
    ]),
  ];
  const widths = (lines[0] ?? []).map((_, at) =>
    Math.max(...lines.map((line) => (line[at] ?? '').length)),
  );
  const text = lines.map((line) =>
    line
      .map((cell, at) => cell.padEnd(widths[at] ?? 0))
      .join('  ')
      .trimEnd(),
  );
  const problems = rows.flatMap(({ device, problem }) =>
    problem === null ? [] : [`${device}: ${problem}`],
  );
  return [...text, ...problems].join('\n');
}

/** NBD block devices as the system shows them, under `/sys/block`. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { errnoOf, StoreError } from '@store/core';

const SECTOR_BYTES = 512;

/** The index of `/dev/nbd3` or `nbd3`. @throws StoreError `E_INVALID` */
export function deviceIndex(text: string): number {
  const digits = /^(?:\/dev\/)?nbd(\d{1,6})$/.exec(text)?.[1];
  if (digits !== undefined) return Number(digits);
  const isPartition = /^(?:\/dev\/)?nbd\d+p\d+$/.test(text);
  throw new StoreError(
    'E_INVALID',
    isPartition
      ? `${text} is a partition; name the whole device: ${text.replace(/p\d+$/, '')}`
      : `'${text}' is not an NBD device; write for example /dev/nbd0`,
  );
}

export function devicePath(index: number): string {
  return `/dev/nbd${index}`;
}

/** What is known of a device that is set up. */
export interface AttachedDevice {
  readonly index: number;
  /** The process that set it up; it need not live any more. */
  readonly pid: number;
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  /** What whoever set it up called its other end. */
  readonly identifier: string | null;
}

/** The device, or null if nothing is behind it. */
export function attachedDevice(index: number): AttachedDevice | null {
  const read = (name: string): string | null => readAttribute(`/sys/block/nbd${index}/${name}`);
  const pid = Number(read('pid') ?? 0);
  if (!(pid > 0)) return null;
  return {
    index,
    pid,
    sizeBytes: Number(read('size') ?? 0) * SECTOR_BYTES,
    readOnly: read('ro') === '1',
    identifier: read('backend'),
  };
}

/** Every device that is set up, in order. */
export function attachedDevices(): AttachedDevice[] {
  return names('/sys/block')
    .flatMap((name) => {
      const digits = /^nbd(\d+)$/.exec(name)?.[1];
      return digits === undefined ? [] : [Number(digits)];
    })
    .sort((a, b) => a - b)
    .flatMap((index) => attachedDevice(index) ?? []);
}

/** Sets an attribute of the device's queue. @throws StoreError `E_SYSTEM` */
export function setQueue(index: number, name: string, value: number): void {
  try {
    writeFileSync(`/sys/block/nbd${index}/queue/${name}`, `${value}`);
  } catch (error) {
    throw new StoreError('E_SYSTEM', `Cannot set ${name} of nbd${index}: ${errnoOf(error)}`, {
      cause: error,
    });
  }
}

/** A number among the attributes of the device's queue; null if it has no such. */
export function queueNumber(index: number, name: string): number | null {
  const text = readAttribute(`/sys/block/nbd${index}/queue/${name}`);
  return text === null ? null : Number(text);
}

/** The text of a file of the system, without its line end; null if it is not there (any more). */
export function readAttribute(path: string): string | null {
  try {
    return readFileSync(path, 'utf8').trimEnd();
  } catch (error) {
    if (['ENOENT', 'ENODEV', 'ENOTDIR', 'ESRCH'].includes(errnoOf(error) ?? '')) return null;
    throw new StoreError('E_SYSTEM', `Cannot read ${path}: ${errnoOf(error)}`, { cause: error });
  }
}

/** The names in a folder of the system; none if it is not there. */
export function names(path: string): string[] {
  try {
    return readdirSync(path);
  } catch (error) {
    if (['ENOENT', 'ENOTDIR', 'ESRCH', 'EACCES'].includes(errnoOf(error) ?? '')) return [];
    throw new StoreError('E_SYSTEM', `Cannot list ${path}: ${errnoOf(error)}`, { cause: error });
  }
}

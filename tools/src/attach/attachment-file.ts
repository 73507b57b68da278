/**
 * What a supervisor writes down of its device, in `/run/store-nbd/nbdN.json` (mode 0600): `ps` and `detach` read it,
 * and a supervisor that follows a dead one goes on from it. It is replaced as a whole, never half-written, and is
 * believed only as far as the kernel agrees: a file without its device means nothing.
 */
import { renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeFolder, errnoOf, StoreError } from '@store/core';
import { names, readAttribute } from './nbd-device.js';

export const RUN_FOLDER = '/run/store-nbd';
const VERSION = 1;

export interface Attachment {
  readonly version: typeof VERSION;
  readonly index: number;
  readonly uri: string;
  /** The kernel's name for the other end; RECONFIGURE must repeat it. */
  readonly identifier: string;
  readonly connections: number;
  /** Links that were alive when this was written. */
  readonly alive: number;
  readonly state: 'connected' | 'redialling' | 'stopping';
  /** Why it could not redial the last time; null while it is connected. */
  readonly problem: string | null;
  /** How many links were replaced so far. */
  readonly redials: number;
  readonly sizeBytes: number;
  /** Flags of the export, as the server gave them. */
  readonly flags: number;
  readonly readOnly: boolean;
  readonly attachedAt: string;
  readonly supervisor: { readonly pid: number; readonly startTicks: string };
}

/** Writes the file of an attachment. @throws StoreError `E_SYSTEM` */
export function writeAttachment(attachment: Attachment, folder = RUN_FOLDER): void {
  const path = fileOf(attachment.index, folder);
  try {
    makeFolder(folder, 0o700);
    const unfinished = `${path}.${process.pid}`;
    writeFileSync(unfinished, `${JSON.stringify(attachment, null, 2)}\n`, { mode: 0o600 });
    renameSync(unfinished, path);
  } catch (error) {
    throw new StoreError('E_SYSTEM', `Cannot write ${path}: ${errnoOf(error)}`, { cause: error });
  }
}

/** What was written of a device; null if nothing, or nothing that is understood. */
export function readAttachment(index: number, folder = RUN_FOLDER): Attachment | null {
  const text = readAttribute(fileOf(index, folder));
  if (text === null) return null;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null; // not ours: whoever wrote it did not replace it as a whole
  }
  return isAttachment(value) && value.index === index ? value : null;
}

/** Every attachment that was written down. */
export function readAttachments(folder = RUN_FOLDER): Attachment[] {
  return names(folder).flatMap((name) => {
    const digits = /^nbd(\d+)\.json$/.exec(name)?.[1];
    return digits === undefined ? [] : (readAttachment(Number(digits), folder) ?? []);
  });
}

export function removeAttachment(index: number, folder = RUN_FOLDER): void {
  rmSync(fileOf(index, folder), { force: true });
}

/** Whether the process that wrote it still lives: a number alone may have gone to another process. */
export function isSupervised(attachment: Attachment): boolean {
  return startTicksOf(attachment.supervisor.pid) === attachment.supervisor.startTicks;
}

/** When a process began, as the kernel counts; null if there is none, or only its remains. */
export function startTicksOf(pid: number): string | null {
  const stat = readAttribute(`/proc/${pid}/stat`);
  if (stat === null) return null;
  // The name in parentheses may hold anything; the fields after it are plain: state is the first, start the 20th.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return fields[0] === 'Z' ? null : (fields[19] ?? null);
}

function fileOf(index: number, folder: string): string {
  return join(folder, `nbd${index}.json`);
}

function isAttachment(value: unknown): value is Attachment {
  if (typeof value !== 'object' || value === null) return false;
  const one = value as Partial<Record<keyof Attachment, unknown>>; // each field is looked at below
  const { supervisor } = one;
  return (
    one.version === VERSION &&
    ['index', 'connections', 'alive', 'redials', 'sizeBytes', 'flags'].every((name) =>
      Number.isSafeInteger(one[name as keyof Attachment]),
    ) &&
    ['uri', 'identifier', 'state', 'attachedAt'].every(
      (name) => typeof one[name as keyof Attachment] === 'string',
    ) &&
    typeof one.readOnly === 'boolean' &&
    (one.problem === null || typeof one.problem === 'string') &&
    typeof supervisor === 'object' &&
    supervisor !== null &&
    'pid' in supervisor &&
    Number.isSafeInteger(supervisor.pid) &&
    'startTicks' in supervisor &&
    typeof supervisor.startTicks === 'string'
  );
}

/**
 * Who uses a block device: mounts, swap, what is stacked on it, and processes that have it open. Detaching it would
 * give all of them I/O errors. What is mounted only in another mount namespace is found by trying to claim the device.
 */
import { constants, readlinkSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { errnoOf } from '@store/core';
import { devicePath, names, readAttribute } from './nbd-device.js';

/** How long to wait for a claim: opening a device without a link may hang. */
const CLAIM_MS = 3000;
const PROCESSES_MAX = 5;

/** Who uses device `index`, each as words that complete `is …`; empty if nobody does. */
export async function deviceUsers(index: number): Promise<string[]> {
  const disk = `nbd${index}`;
  const parts = [
    disk,
    ...names(`/sys/block/${disk}`).filter((name) => name.startsWith(`${disk}p`)),
  ];
  const users = parts.flatMap((part) => [
    ...mountsOf(numberOf(disk, part) ?? 'gone', readAttribute('/proc/self/mountinfo') ?? ''),
    ...swapsOf(part, readAttribute('/proc/swaps') ?? ''),
    ...names(`/sys/block/${disk}/${part === disk ? '' : `${part}/`}holders`).map(
      (holder) => `part of ${holder}`,
    ),
    ...loopsOf(part),
  ]);
  const processes = openIn(parts.map((part) => `/dev/${part}`));
  users.push(...processes.slice(0, PROCESSES_MAX));
  if (processes.length > PROCESSES_MAX) users.push(`and ${processes.length - PROCESSES_MAX} more`);
  if (users.length === 0 && (await isClaimed(index)))
    users.push('claimed by something this process cannot see, such as a mount in a container');
  return users;
}

/** Where the device `number` (`43:0`) is mounted. */
export function mountsOf(number: string, mountinfo: string): string[] {
  return mountinfo.split('\n').flatMap((line) => {
    const [, , device, , target = ''] = line.split(' ');
    return device === number ? [`mounted on ${unescapeOctal(target)}`] : [];
  });
}

/** Whether it is a swap area. */
export function swapsOf(part: string, swaps: string): string[] {
  return swaps.split('\n').some((line) => line.startsWith(`/dev/${part} `)) ? ['used as swap'] : [];
}

function loopsOf(part: string): string[] {
  return names('/sys/block')
    .filter((name) => name.startsWith('loop'))
    .filter((name) => readAttribute(`/sys/block/${name}/loop/backing_file`) === `/dev/${part}`)
    .map((name) => `behind /dev/${name}`);
}

function numberOf(disk: string, part: string): string | null {
  return readAttribute(`/sys/block/${disk}/${part === disk ? '' : `${part}/`}dev`);
}

/** Processes that have one of the files open. */
function openIn(paths: readonly string[]): string[] {
  return names('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .filter((pid) =>
      names(`/proc/${pid}/fd`).some((fd) => isLinkTo(`/proc/${pid}/fd/${fd}`, paths)),
    )
    .map((pid) => `open in process ${pid} (${readAttribute(`/proc/${pid}/comm`) ?? 'gone'})`);
}

function isLinkTo(link: string, paths: readonly string[]): boolean {
  try {
    return paths.includes(readlinkSync(link));
  } catch (error) {
    if (['ENOENT', 'ESRCH', 'EACCES', 'EINVAL'].includes(errnoOf(error) ?? '')) return false; // gone
    throw error;
  }
}

async function isClaimed(index: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<'late'>((resolve) => {
    timer = setTimeout(() => resolve('late'), CLAIM_MS);
  });
  const claim = open(devicePath(index), constants.O_RDONLY | constants.O_EXCL).then(
    async (file) => {
      await file.close();
      return false;
    },
    (error: unknown) => errnoOf(error) === 'EBUSY', // any other error claims nothing
  );
  try {
    const answer = await Promise.race([claim, late]);
    return answer === true; // a device that cannot even be opened holds nobody back
  } finally {
    clearTimeout(timer);
  }
}

/** mountinfo writes blanks and backslashes as `\040`. */
function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}

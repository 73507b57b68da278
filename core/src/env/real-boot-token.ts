/**
 * Tells whether what the kernel had not yet written can still be there: same boot, same attachment of the device.
 */
import fs from 'node:fs';

/**
 * A line that changes with a reboot and whenever the device under `folder` was detached, or the one that `dataFile` is
 * a link to.
 */
export function bootToken(folder: string, dataFile: string): string {
  const bootId = fs.readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  const data = fs.statSync(dataFile, { bigint: true, throwIfNoEntry: false });
  const raw = data?.isBlockDevice() === true ? ` ${diskSequence(data.rdev) ?? 'raw'}` : '';
  return `${bootId} ${attachment(folder)}${raw}`;
}

/** The kernel's number of an attachment of a block device, null if it has none. */
function diskSequence(device: bigint): string | null {
  const number = `${major(device)}:${minor(device)}`;
  for (const file of [
    `/sys/dev/block/${number}/diskseq`,
    `/sys/dev/block/${number}/../diskseq`, // a partition: its disk counts
  ])
    if (fs.existsSync(file)) return `diskseq ${fs.readFileSync(file, 'utf8').trim()}`;
  return null;
}

/**
 * The kernel's `diskseq` of the device (Linux >= 5.15), which no two attachments share; for file systems without a
 * device of their own (overlay, tmpfs) the identity of the mount.
 */
function attachment(folder: string): string {
  const device = fs.statSync(folder, { bigint: true }).dev;
  const mount = findMount(folder);
  const candidates = [device];
  if (mount !== null && mount.source.startsWith('/dev/')) {
    // btrfs shows an anonymous device number; the mount table names the real device
    const source = fs.statSync(mount.source, { bigint: true, throwIfNoEntry: false });
    if (source !== undefined) candidates.push(source.rdev);
  }
  for (const candidate of candidates) {
    const sequence = diskSequence(candidate);
    if (sequence !== null) return sequence;
  }
  return `mount ${mount?.id ?? 'unknown'} ${device}`;
}

interface Mount {
  readonly id: string;
  readonly source: string;
}

/** The mount that holds `folder`: the longest mount point that is a prefix of its real path. */
function findMount(folder: string): Mount | null {
  const real = fs.realpathSync(folder);
  let best: Mount | null = null;
  let bestLength = -1;
  for (const line of fs.readFileSync('/proc/self/mountinfo', 'utf8').split('\n')) {
    const [left, right] = line.split(' - ');
    if (left === undefined || right === undefined) continue;
    const [id, , , , point] = left.split(' ');
    const source = right.split(' ')[1];
    if (id === undefined || point === undefined || source === undefined) continue;
    const prefix = unescapeMount(point);
    const holds = prefix === '/' || real === prefix || real.startsWith(`${prefix}/`);
    if (!holds || prefix.length < bestLength) continue; // a later line lies on top of an earlier one
    best = { id, source: unescapeMount(source) };
    bestLength = prefix.length;
  }
  return best;
}

function unescapeMount(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) =>
    String.fromCharCode(parseInt(octal, 8)),
  );
}

// Linux dev_t as `stat` reports it: see makedev(3).
function major(device: bigint): bigint {
  return ((device >> 8n) & 0xfffn) | ((device >> 32n) & ~0xfffn);
}

function minor(device: bigint): bigint {
  return (device & 0xffn) | ((device >> 12n) & ~0xffn);
}

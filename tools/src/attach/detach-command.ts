/** `store-nbd detach`: ends a device, and with it the supervisor. */
import { StoreError } from '@store/core';
import { asUsage, type Context } from '../program.js';
import { isSupervised, readAttachment, removeAttachment } from './attachment-file.js';
import { deviceUsers } from './device-users.js';
import { attachedDevice, deviceIndex, devicePath } from './nbd-device.js';
import { NbdNetlink } from './netlink-client.js';

const GONE_MS = 10_000;
const LOOK_MS = 50;

/** @param force - Also if somebody uses it, who gets I/O errors then */
export async function detach(
  context: Context,
  positional: readonly string[],
  force: boolean,
): Promise<void> {
  const index = asUsage(() => deviceIndex(positional[0] ?? ''));
  const path = devicePath(index);
  if (attachedDevice(index) === null)
    throw new StoreError('E_NOT_FOUND', `${path} is not attached; see what is with: store-nbd ps`);
  if (process.getuid?.() !== 0)
    throw new StoreError('E_SYSTEM', 'Only root may detach devices; run it with sudo');
  const users = await deviceUsers(index);
  if (users.length > 0 && !force)
    throw new StoreError(
      'E_IN_USE',
      `${path} is ${users.join(', ')}; end that first, for example with umount, or lose what is not written with --force`,
    );
  const netlink = await NbdNetlink.open();
  try {
    await netlink.disconnect(index);
  } finally {
    netlink.close();
  }
  const supervisorIsGone = await until(context, () => {
    const attachment = readAttachment(index);
    return attachment === null || !isSupervised(attachment);
  });
  if (!supervisorIsGone)
    throw new StoreError('E_TIMEOUT', `${path} is detached, but its supervisor does not end`);
  removeAttachment(index);
  // With --force it stays until the last user closes it.
  if (!force && !(await until(context, () => attachedDevice(index) === null)))
    throw new StoreError('E_IN_USE', `${path} was opened meanwhile; it ends when that is closed`);
  context.log.info({ device: path }, 'Detached');
}

async function until(context: Context, isSo: () => boolean): Promise<boolean> {
  const endMs = context.env.clock.now() + GONE_MS;
  while (!isSo()) {
    if (context.env.clock.now() > endMs) return false;
    await context.env.timers.sleep(LOOK_MS);
  }
  return true;
}

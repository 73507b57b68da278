import type { ListenAddress } from '@store/core';

/** The lines that turn a served image into a block device, ready to be pasted into a root shell. */
export function attachAdvice(address: ListenAddress, uri: string): string {
  const target =
    'path' in address ? `-unix ${quote(address.path)}` : `${address.host} ${address.port}`;
  return `
Attach it with the kernel's nbd module (as root, in another terminal):
  modprobe nbd
  nbd-client ${target} /dev/nbd0
  mkfs.ext4 /dev/nbd0        # the first time only: it erases what is there
  mount /dev/nbd0 /mnt
and detach it:
  umount /mnt && nbd-client -d /dev/nbd0

Without the nbd module, through FUSE:
  mkdir -p /tmp/store-nbd && nbdfuse /tmp/store-nbd ${quote(uri)} &
  losetup --find --show /tmp/store-nbd/nbd        # prints the device to use, e.g. /dev/loop0
and detach it:
  umount /mnt; losetup --detach /dev/loop0 && fusermount3 -u /tmp/store-nbd

Ctrl-C stops the server; the data stays.`;
}

/** Quotes for a shell where that is needed. */
export function quote(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

import { quote } from '../attach-advice.js';

/** The lines that turn an image served with TLS into a block device, ready to be pasted into a root shell. */
export function tlsAttachAdvice(uri: string): string {
  const sign = uri.includes('?') ? '&' : '?';
  return `
Attach it through FUSE (as root, in another terminal), with a certificate of the client
(ca-cert.pem, client-cert.pem and client-key.pem in a folder) or with a pre-shared key:
  mkdir -p /tmp/store-nbd
  nbdfuse /tmp/store-nbd ${quote(`${uri}${sign}tls-certificates=FOLDER`)} &
  nbdfuse /tmp/store-nbd ${quote(`${uri.replace('//', '//IDENTITY@')}${sign}tls-psk-file=FILE`)} &
  losetup --find --show /tmp/store-nbd/nbd        # prints the device to use, e.g. /dev/loop0
and detach it:
  umount /mnt; losetup --detach /dev/loop0 && fusermount3 -u /tmp/store-nbd

Ctrl-C stops the server; the data stays.`;
}

import type { NbdUri } from '@store/gateway-nbd';
import { quote } from '../attach-advice.js';

/** How long QEMU and libvirt keep requests while they redial. */
const RECONNECT_SECONDS = 60;

/**
 * How other clients attach what a URI names: nbd-client, libvirt and QEMU, ready to be pasted. Inside TLS: nbdfuse, for
 * the others need keys that are configured elsewhere.
 * @param text - The URI as it was given
 */
export function attachLines(
  uri: NbdUri,
  options: { connections: number; readOnly: boolean },
  text: string,
): string {
  if (uri.tls.required)
    return `Through FUSE, inside TLS (as root; where the keys are: nbd_set_tls_certificates(3), nbd_set_tls_psk_file(3)):
  mkdir -p /tmp/store-nbd && nbdfuse${options.readOnly ? ' -r' : ''} /tmp/store-nbd ${quote(text)} &
  losetup --find --show /tmp/store-nbd/nbd

Linux's nbd-client, libvirt and QEMU take keys from places of their own: nbd-client(8) -x, <source tls='yes'>, and
-object tls-creds-x509 or tls-creds-psk with tls-creds= in the -blockdev.`;
  return `Linux, without reconnecting (as root; 'store-nbd attach' reconnects):
  ${nbdClientLine(uri, options)}

libvirt 9 or newer, in <devices>:
${libvirtDisk(uri, options.readOnly)}

QEMU:
  ${qemuArguments(uri, options.readOnly)}`;
}

function nbdClientLine(
  { address, exportName }: NbdUri,
  { connections, readOnly }: { connections: number; readOnly: boolean },
): string {
  const target = 'path' in address ? ['-unix', address.path] : [address.host, `${address.port}`];
  const words = [
    ...['nbd-client', ...target, '/dev/nbd0'],
    ...(exportName === '' ? [] : ['-N', exportName]),
    ...(connections === 1 ? [] : ['-C', `${connections}`]),
    ...(readOnly ? ['-R'] : []),
  ];
  return words.map(quote).join(' ');
}

function libvirtDisk({ address, exportName }: NbdUri, readOnly: boolean): string {
  const host =
    'path' in address
      ? `<host transport='unix' socket='${xml(address.path)}'/>`
      : `<host name='${xml(address.host)}' port='${address.port}'/>`;
  const name = exportName === '' ? '' : ` name='${xml(exportName)}'`;
  return `  <disk type='network' device='disk'>
    <driver name='qemu' type='raw' cache='none' discard='unmap'/>
    <source protocol='nbd'${name}>
      ${host}
      <reconnect delay='${RECONNECT_SECONDS}'/>
    </source>
    <target dev='vda' bus='virtio'/>${readOnly ? '\n    <readonly/>' : ''}
  </disk>`;
}

function qemuArguments({ address, exportName }: NbdUri, readOnly: boolean): string {
  const server =
    'path' in address
      ? { 'server.type': 'unix', 'server.path': address.path }
      : { 'server.type': 'inet', 'server.host': address.host, 'server.port': `${address.port}` };
  const fields: Record<string, string> = {
    driver: 'nbd',
    'node-name': 'store0',
    ...server,
    ...(exportName === '' ? {} : { export: exportName }),
    'reconnect-delay': `${RECONNECT_SECONDS}`,
    'cache.direct': 'on',
    discard: 'unmap',
    'read-only': readOnly ? 'on' : 'off',
  };
  // A comma inside a value is written twice.
  const text = Object.entries(fields).map(
    ([name, value]) => `${name}=${value.replaceAll(',', ',,')}`,
  );
  return `-blockdev ${quote(text.join(','))} -device virtio-blk-pci,drive=store0`;
}

function xml(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll("'", '&apos;')
    .replaceAll('"', '&quot;');
}

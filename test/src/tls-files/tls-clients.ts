import { join } from 'node:path';

/** A client: a folder with its certificate, or an identity and the folder with `keys.psk`. */
export type TlsClient =
  { readonly certificates: string } | { readonly identity: string; readonly keys: string };

/** The URI libnbd's tools take, from the one a server printed. */
export function libnbdUri(uri: string, client: TlsClient, exportName = 'vm1'): string {
  const url = new URL(uri.replace(/^nbds?:/, 'http:'));
  const { host } = url;
  return 'certificates' in client
    ? `nbds://${host}/${exportName}?tls-certificates=${client.certificates}`
    : `nbds://${client.identity}@${host}/${exportName}?tls-psk-file=${join(client.keys, 'keys.psk')}`;
}

/** The arguments with which qemu's programs reach a server, behind the name of the command. */
export function qemuArguments(
  uri: string,
  client: TlsClient,
): { object: string[]; image: string; address: string[] } {
  const { port } = new URL(uri.replace(/^nbds?:/, 'http:'));
  const credentials =
    'certificates' in client
      ? `tls-creds-x509,id=tls0,endpoint=client,dir=${client.certificates}`
      : `tls-creds-psk,id=tls0,endpoint=client,dir=${client.keys},username=${client.identity}`;
  return {
    object: ['--object', credentials],
    image: `driver=nbd,host=localhost,port=${port},export=vm1,tls-creds=tls0`,
    address: ['-b', 'localhost', '-p', port, '--tls-creds', 'tls0'],
  };
}

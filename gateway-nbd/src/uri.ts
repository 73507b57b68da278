import type { ListenAddress } from '@store/core';
import { NBD_PORT } from './protocol/constants.js';

/**
 * The NBD URI of an export (NetworkBlockDevice/nbd doc/uri.md): `nbd://127.0.0.1/vm1` or
 * `nbd+unix:///vm1?socket=/run/store.sock`.
 * @param name - Export name; empty for the default export.
 */
export function nbdUri(address: ListenAddress, name: string): string {
  const path = encodePath(name);
  if ('path' in address) return `nbd+unix:///${path}?socket=${encodePath(address.path)}`;
  const host = address.host.includes(':') ? `[${address.host}]` : address.host;
  const port = address.port === NBD_PORT ? '' : `:${address.port}`;
  return `nbd://${host}${port}/${path}`;
}

/** Percent-encodes everything but unreserved characters and `/`. */
function encodePath(text: string): string {
  return encodeURIComponent(text)
    .replaceAll('%2F', '/')
    .replace(/[!'()*]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`);
}

import { isIPv4 } from 'node:net';

/** True if only this machine can connect to what listens on `host`. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIPv4(host) && host.startsWith('127.'));
}

/** What to do when an address cannot be listened on, or nobody can be reached there. */
import { errnoOf, messageOf } from '../util/errors.js';
import type { ListenAddress } from './network.js';

const NO_SUCH_HOST = 'no such host name; write an address, for example 127.0.0.1';

/** An address as people write it. */
export function addressText(address: ListenAddress): string {
  if ('path' in address) return address.path;
  const { host, port } = address;
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/** Why a port cannot be listened on. */
export function portAdvice(error: unknown): string {
  switch (errnoOf(error)) {
    case 'EADDRINUSE':
      return 'the port is taken; stop the program that uses it or choose another port';
    case 'EACCES':
      return 'no permission; choose a port from 1024 up or run as root';
    case 'EADDRNOTAVAIL':
      return 'this machine does not have that address; choose one of `ip address` or 127.0.0.1';
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return NO_SUCH_HOST;
    default:
      return messageOf(error);
  }
}

/** Why nobody can be reached at an address. */
export function reachAdvice(error: unknown, address: ListenAddress): string {
  const isPath = 'path' in address;
  switch (errnoOf(error)) {
    case 'ECONNREFUSED':
      return 'nothing listens there; start the server, or correct the address';
    case 'ENOENT':
    case 'ENOTDIR':
      return 'there is no such socket; start the server, or correct the path';
    case 'EACCES':
    case 'EPERM':
      return isPath
        ? 'no permission; run as the user that the socket belongs to, or as root'
        : 'the system forbids it; look at the rules of the firewall';
    case 'EAGAIN':
      return 'so many wait there that no more fit; is the server stuck?';
    case 'EPROTOTYPE':
      return 'the socket is not for streams; correct the path';
    case 'ENOTFOUND':
      return NO_SUCH_HOST;
    case 'EAI_AGAIN':
      return 'the name service does not answer; write an address, for example 127.0.0.1';
    case 'ENETUNREACH':
    case 'EHOSTUNREACH':
    case 'EADDRNOTAVAIL':
      return 'no way leads there; look at the network of this machine (`ip route`)';
    case 'ETIMEDOUT':
      return 'nobody answers; is the machine up, and no firewall between?';
    default:
      return messageOf(error);
  }
}

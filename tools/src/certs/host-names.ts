/** The hosts a certificate is for: names and addresses, as those who connect write them. */
import { isIP } from 'node:net';
import { StoreError } from '@store/core';

/** What people connect to on this machine itself. */
const LOCAL: readonly string[] = ['localhost', '127.0.0.1', '::1'];
const LABEL = /^[a-z\d_](?:[a-z\d_-]{0,61}[a-z\d_])?$/i;
const NAME_CHARACTERS_MAX = 253;

export interface CertificateHost {
  readonly type: 'dns' | 'ip';
  readonly value: string;
}

/** Reads a host: a name, `*.example.org`, or an address. @throws StoreError `E_INVALID` */
export function parseHost(text: string): CertificateHost {
  if (isIP(text) !== 0 && !text.includes('%')) return { type: 'ip', value: text };
  if (!isHostName(text))
    throw new StoreError(
      'E_INVALID',
      `${JSON.stringify(text)} is neither a host name nor an address; write it without port and brackets, in ASCII`,
    );
  return { type: 'dns', value: text.toLowerCase() };
}

/**
 * The hosts of a certificate where none were given: this machine's own names, and `name` if it can be a host's. A
 * certificate for a client needs none.
 */
export function defaultHosts(name: string): CertificateHost[] {
  const hosts = isHostName(name) || isIP(name) !== 0 ? [name, ...LOCAL] : LOCAL;
  return [...new Set(hosts)].map(parseHost);
}

function isHostName(text: string): boolean {
  const labels = text.replace(/^\*\./, '').split('.');
  const isNumeric = /^\d+$/.test(labels.at(-1) ?? ''); // an address that is none, like 10.0.0.300
  return text.length <= NAME_CHARACTERS_MAX && !isNumeric && labels.every((one) => LABEL.test(one));
}

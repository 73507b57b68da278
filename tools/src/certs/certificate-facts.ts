import { X509Certificate } from 'node:crypto';
import { isIPv6 } from 'node:net';
import { StoreError } from '@store/core';
import { readTextFile } from '../read-text-file.js';

export const PEM_BYTES_MAX: number = 256 * 1024;

/** What a certificate says. */
export interface CertificateFacts {
  readonly name: string;
  /** Who signed it. */
  readonly issuer: string;
  readonly isAuthority: boolean;
  /** Names and addresses it is good for. */
  readonly hosts: readonly string[];
  readonly notBefore: Date;
  readonly notAfter: Date;
  readonly state: 'valid' | 'expired' | 'not yet valid';
  readonly serial: string;
  /** SHA-256 of the certificate, in pairs of digits. */
  readonly fingerprint: string;
}

/** Reads a certificate in PEM. @throws StoreError `E_SYSTEM`, `E_INVALID` */
export async function readCertificate(path: string): Promise<X509Certificate> {
  const { text } = await readTextFile(path, PEM_BYTES_MAX);
  if (!text.includes('-----BEGIN CERTIFICATE-----')) {
    const isKey = /-----BEGIN [A-Z ]*PRIVATE KEY-----/.test(text);
    throw new StoreError(
      'E_INVALID',
      isKey
        ? `${path} is a key; show the certificate that belongs to it`
        : `${path} is not a certificate in PEM`,
    );
  }
  try {
    return new X509Certificate(text);
  } catch (error) {
    throw new StoreError('E_INVALID', `${path} is a damaged certificate`, { cause: error });
  }
}

/** What `certificate` says, judged at `now`. */
export function certificateFacts(certificate: X509Certificate, now: Date): CertificateFacts {
  const notBefore = new Date(certificate.validFrom);
  const notAfter = new Date(certificate.validTo);
  const { subject, issuer } = certificate.toLegacyObject(); // the others escape what is in a name
  return {
    name: commonName(subject) ?? inOneLine(certificate.subject),
    issuer: commonName(issuer) ?? inOneLine(certificate.issuer),
    isAuthority: certificate.ca,
    hosts: hostsOf(certificate.subjectAltName ?? ''),
    notBefore,
    notAfter,
    state: now < notBefore ? 'not yet valid' : now > notAfter ? 'expired' : 'valid',
    serial: certificate.serialNumber.toLowerCase(),
    fingerprint: certificate.fingerprint256,
  };
}

/** A name may have none, or several. */
function commonName(name: { CN?: string | string[] | undefined }): string | null {
  return [name.CN].flat().join(', ') || null;
}

/** All there is of a name without a common one. */
function inOneLine(name: string): string {
  return name.replaceAll('\n', ', ');
}

function hostsOf(subjectAltName: string): string[] {
  const hosts: string[] = [];
  for (const [, kind, value = ''] of subjectAltName.matchAll(/(DNS|IP Address):([^,]+)/g))
    hosts.push(kind === 'DNS' || !isIPv6(value) ? value : shortIPv6(value));
  return hosts;
}

/** `::1` for `0:0:0:0:0:0:0:1`. */
function shortIPv6(address: string): string {
  return new URL(`http://[${address}]`).hostname.slice(1, -1);
}

/**
 * Makes certificates (RFC 5280) with ECDSA P-256 keys: an authority, and what it signs. The library writes the ASN.1;
 * it takes a quarter of a second to load, so only who makes certificates loads it.
 */
import { randomBytes, webcrypto, type KeyObject } from 'node:crypto';
import type { CertificateHost } from './host-names.js';

type Library = typeof import('@peculiar/x509');

const CURVE = { name: 'ECDSA', namedCurve: 'P-256' } as const;
const SIGNATURE = { name: 'ECDSA', hash: 'SHA-256' } as const;
/** Clocks that are behind by less find a new certificate valid. */
export const BACKDATE_MS: number = 3600 * 1000;
const SERIAL_BYTES = 16;
/** The longest name a certificate may have (ub-common-name, RFC 5280 A.1). */
export const COMMON_NAME_CHARACTERS_MAX = 64;

/** A certificate and its key, in PEM. */
export interface MadeCertificate {
  readonly certificate: string;
  /** PKCS #8, not encrypted. */
  readonly key: string;
}

/** Who signs. */
export interface Signer {
  /** PEM. */
  readonly certificate: string;
  readonly key: KeyObject;
}

/** A new authority, which signs itself and may sign certificates, but no other authorities. */
export async function makeAuthority(name: string, notAfter: Date): Promise<MadeCertificate> {
  const x509 = await load();
  const keys = await generateKeys();
  const { keyCertSign, cRLSign } = x509.KeyUsageFlags;
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    name: nameOf(x509, name),
    keys,
    notBefore: notBefore(),
    notAfter,
    serialNumber: serialNumber(),
    signingAlgorithm: SIGNATURE,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(keyCertSign | cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { certificate: pem(certificate.toString('pem')), key: await exportKey(keys.privateKey) };
}

/** A new certificate for both ends of a connection: it may serve `hosts`, and says as a client who it is. */
export async function makeCertificate(
  signer: Signer,
  name: string,
  hosts: readonly CertificateHost[],
  notAfter: Date,
): Promise<MadeCertificate> {
  const x509 = await load();
  const keys = await generateKeys();
  const authority = new x509.X509Certificate(signer.certificate);
  const { serverAuth, clientAuth } = x509.ExtendedKeyUsage;
  const certificate = await x509.X509CertificateGenerator.create({
    subject: nameOf(x509, name),
    issuer: authority.subjectName,
    publicKey: keys.publicKey,
    signingKey: await importKey(signer.key),
    notBefore: notBefore(),
    notAfter,
    serialNumber: serialNumber(),
    signingAlgorithm: SIGNATURE,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([serverAuth, clientAuth]),
      new x509.SubjectAlternativeNameExtension(hosts.map(({ type, value }) => ({ type, value }))),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
      await x509.AuthorityKeyIdentifierExtension.create(authority.publicKey),
    ],
  });
  return { certificate: pem(certificate.toString('pem')), key: await exportKey(keys.privateKey) };
}

/** It wants the metadata of classes, which has to be there before it. */
async function load(): Promise<Library> {
  await import('reflect-metadata');
  return import('@peculiar/x509');
}

/** As a structure, not as text: a name may contain commas, equals signs and number signs. */
function nameOf(x509: Library, name: string): InstanceType<Library['Name']> {
  return new x509.Name([{ CN: [{ utf8String: name }] }]);
}

/** Positive, and without leading zeros. */
function serialNumber(): string {
  const bytes = randomBytes(SERIAL_BYTES);
  bytes[0] = ((bytes[0] ?? 0) & 0x3f) | 0x40;
  return bytes.toString('hex');
}

function notBefore(): Date {
  return new Date(Date.now() - BACKDATE_MS);
}

async function generateKeys(): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(CURVE, true, ['sign', 'verify']);
}

async function importKey(key: KeyObject): Promise<webcrypto.CryptoKey> {
  const bytes = key.export({ format: 'der', type: 'pkcs8' });
  return webcrypto.subtle.importKey('pkcs8', bytes, CURVE, false, ['sign']);
}

async function exportKey(key: webcrypto.CryptoKey): Promise<string> {
  const bytes = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', key)).toString('base64');
  return `-----BEGIN PRIVATE KEY-----\n${bytes.replace(/.{64}(?=.)/g, '$&\n')}\n-----END PRIVATE KEY-----\n`;
}

function pem(text: string): string {
  return `${text.trimEnd()}\n`;
}

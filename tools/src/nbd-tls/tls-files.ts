/**
 * Finds and reads the files of TLS. What goes wrong with one of them is said with its name; nothing is used before
 * all of them are good.
 */
import { createPrivateKey, X509Certificate, type KeyObject } from 'node:crypto';
import { constants, existsSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { messageOf, StoreError, type Log, type TlsKeys } from '@store/core';
import { parsePskFile } from './psk-file.js';
import type { TlsFiles, TlsGiven } from './tls-settings.js';

/** As qemu and nbdkit name them. */
const CONVENTIONAL: TlsFiles = {
  cert: 'server-cert.pem',
  key: 'server-key.pem',
  ca: 'ca-cert.pem',
  crl: 'ca-crl.pem',
  psk: 'keys.psk',
};
const FILE_BYTES_MAX = 4 * 1024 * 1024;
const FOR_OTHERS = 0o007;

/** The files that were named, and those the folder of `--tls-dir` has beside them. */
export function findTlsFiles({ dir, files }: Pick<TlsGiven, 'dir' | 'files'>): TlsFiles {
  const found = (which: keyof TlsFiles): string | null => {
    if (files[which] !== null || dir === null) return files[which];
    const path = join(dir, CONVENTIONAL[which] ?? '');
    return existsSync(path) ? path : null;
  };
  return {
    cert: found('cert'),
    key: found('key'),
    ca: found('ca'),
    crl: found('crl'),
    psk: found('psk'),
  };
}

/** A file that was found `before` and is not `now`: without it a list of revoked clients, say, would be empty. */
export function missingFile(before: TlsFiles, now: TlsFiles): string | null {
  for (const which of ['cert', 'key', 'ca', 'crl', 'psk'] as const)
    if (now[which] === null && before[which] !== null) return before[which];
  return null;
}

/** Reads a file of text. @throws StoreError `E_SYSTEM`, `E_INVALID` */
export async function readSmallFile(
  path: string,
  { secretFor = null }: { secretFor?: Log | null } = {},
): Promise<Buffer> {
  try {
    // A pipe would make us wait for its writer.
    const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const stat = await file.stat();
      const { size, mode } = stat;
      if (!stat.isFile()) throw new StoreError('E_INVALID', `${path} is not a file`);
      if (size > FILE_BYTES_MAX)
        throw new StoreError('E_INVALID', `${path} has more than ${FILE_BYTES_MAX} bytes`);
      if (secretFor !== null && (mode & FOR_OTHERS) !== 0)
        secretFor.warn({ file: path }, `Every user can get at this key; chmod o= ${path}`);
      return await file.readFile();
    } finally {
      await file.close();
    }
  } catch (error) {
    if (error instanceof StoreError) throw error;
    throw new StoreError('E_SYSTEM', `Cannot read a file of TLS: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

/**
 * Reads and checks the files.
 * @param outOfDate - What to do about a certificate of the server that is not valid today: there may be a better one
 * @throws StoreError `E_SYSTEM` if one cannot be read, `E_INVALID` if it is not what it should be
 */
export async function readTlsKeys(
  files: TlsFiles,
  log: Log,
  outOfDate: 'warn' | 'refuse',
): Promise<TlsKeys> {
  const { cert, key, ca, crl, psk } = files;
  const keys = {
    ...(cert === null ? {} : { cert: await readSmallFile(cert) }),
    ...(key === null ? {} : { key: await readSmallFile(key, { secretFor: log }) }),
    ...(ca === null ? {} : { ca: await readSmallFile(ca) }),
    ...(crl === null ? {} : { crl: await readSmallFile(crl) }),
  };
  if (ca !== null && keys.ca !== undefined) certificateIn(ca, keys.ca);
  if (cert !== null && keys.cert !== undefined) {
    const certificate = certificateIn(cert, keys.cert);
    if (key !== null && keys.key !== undefined && !belongs(certificate, keyIn(key, keys.key)))
      throw new StoreError('E_INVALID', `The key in ${key} is not that of the certificate ${cert}`);
    checkDates(certificate, cert, outOfDate === 'warn' ? log : null);
  }
  if (psk === null) return keys;
  const text = (await readSmallFile(psk, { secretFor: log })).toString();
  return { ...keys, psk: parsePskFile(psk, text) };
}

function certificateIn(path: string, pem: Buffer): X509Certificate {
  try {
    return new X509Certificate(pem);
  } catch (error) {
    throw new StoreError('E_INVALID', `${path} is not a certificate in PEM: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

function keyIn(path: string, pem: Buffer): KeyObject {
  try {
    return createPrivateKey(pem);
  } catch (error) {
    const why = `${path} is not a key in PEM without a passphrase: ${messageOf(error)}`;
    throw new StoreError('E_INVALID', why, { cause: error });
  }
}

function belongs(certificate: X509Certificate, key: KeyObject): boolean {
  try {
    return certificate.checkPrivateKey(key);
  } catch {
    return false; // keys of two kinds cannot be compared: that is the answer
  }
}

/** Clients refuse such a server, and say little of why. @throws StoreError without a log to warn in */
function checkDates({ validFrom, validTo }: X509Certificate, file: string, log: Log | null): void {
  const now = Date.now();
  if (Date.parse(validFrom) <= now && now <= Date.parse(validTo)) return;
  if (log === null)
    throw new StoreError(
      'E_INVALID',
      `${file} is valid from ${validFrom} to ${validTo}, not today`,
    );
  log.warn({ file, validFrom, validTo }, 'This certificate is not valid today; clients refuse it');
}

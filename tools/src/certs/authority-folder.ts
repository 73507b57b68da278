/**
 * A folder with an authority and what it signed: `ca.crt` and `ca.key`, `NAME.crt` and `NAME.key`. Keys are for their
 * owner alone. `ca.key` is needed to issue certificates and nowhere else.
 */
import { createPrivateKey, type KeyObject } from 'node:crypto';
import { stat, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf, makeFolder, messageOf, StoreError } from '@store/core';
import { readTextFile } from '../read-text-file.js';
import { PRIVATE_MODE, PUBLIC_MODE, writeNewFile } from '../write-new-file.js';
import { certificateFacts, PEM_BYTES_MAX, readCertificate } from './certificate-facts.js';
import type { MadeCertificate, Signer } from './make-certificate.js';

export const AUTHORITY_NAME = 'ca';
/** Certificates are public; each key has a mode of its own. */
const PUBLIC_FOLDER_MODE = 0o755;

/** The files of a certificate. */
export interface CertificatePaths {
  readonly certificate: string;
  readonly key: string;
}

export function pathsIn(folder: string, name: string): CertificatePaths {
  return { certificate: join(folder, `${name}.crt`), key: join(folder, `${name}.key`) };
}

/** Makes the folder if it is missing. @throws StoreError `E_SYSTEM` */
export function makeAuthorityFolder(folder: string): void {
  try {
    makeFolder(folder, PUBLIC_FOLDER_MODE);
  } catch (error) {
    throw new StoreError('E_SYSTEM', `Cannot make the folder ${folder}: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

/** @throws StoreError `E_EXISTS` if one of the files is there, before anything is made */
export async function refuseExisting(paths: CertificatePaths): Promise<void> {
  for (const path of [paths.key, paths.certificate])
    if (await exists(path))
      throw new StoreError(
        'E_EXISTS',
        `${path} is there already, and is left as it is; give --force to replace it`,
      );
}

/** Writes both files, the key first: a certificate that is there has its key. A new key does not stay alone. */
export async function writeCertificate(
  paths: CertificatePaths,
  made: MadeCertificate,
  replaces: boolean,
): Promise<void> {
  await writeNewFile(paths.key, made.key, { mode: PRIVATE_MODE, replaces });
  try {
    await writeNewFile(paths.certificate, made.certificate, { mode: PUBLIC_MODE, replaces });
  } catch (error) {
    if (!replaces) await unlink(paths.key);
    throw error;
  }
}

/** Who signs, and until when what it signs can be good. @throws StoreError saying what is wrong with it */
export async function readAuthority(folder: string): Promise<{ signer: Signer; notAfter: Date }> {
  const paths = pathsIn(folder, AUTHORITY_NAME);
  if (!(await exists(paths.certificate)))
    throw new StoreError(
      'E_NOT_FOUND',
      `There is no authority in ${folder}; make one with store cert init, or say where it is with --dir`,
    );
  const certificate = await readCertificate(paths.certificate);
  const key = await readKey(paths.key);
  const { isAuthority, notAfter, state } = certificateFacts(certificate, new Date());
  if (!isAuthority)
    throw new StoreError('E_INVALID', `${paths.certificate} is not the one of an authority`);
  if (state !== 'valid')
    throw new StoreError(
      'E_INVALID',
      `The authority in ${folder} is ${state}; make another with store cert init`,
    );
  if (!certificate.checkPrivateKey(key))
    throw new StoreError('E_INVALID', `${paths.key} does not belong to ${paths.certificate}`);
  return { signer: { certificate: certificate.toString(), key }, notAfter };
}

/** Its error never shows what stands in the file. */
async function readKey(path: string): Promise<KeyObject> {
  const { text } = await readTextFile(path, PEM_BYTES_MAX);
  let key: KeyObject;
  try {
    key = createPrivateKey(text);
  } catch {
    throw new StoreError('E_INVALID', `${path} is not a key in PEM, or it is encrypted`);
  }
  if (key.asymmetricKeyDetails?.namedCurve !== 'prime256v1')
    throw new StoreError('E_INVALID', `${path} is not an ECDSA P-256 key; use what made it`);
  return key;
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false;
    throw new StoreError('E_SYSTEM', `Cannot look at ${path}: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

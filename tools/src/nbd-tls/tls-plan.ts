/**
 * Decides from the settings how a server protects itself, and refuses what does not fit together. Two rules: what
 * others can reach demands TLS and knows its clients, unless `--insecure` says otherwise (T12); and nothing that
 * was given to protect an image is ignored.
 */
import { UsageError } from '../usage-error.js';
import type { TlsFiles, TlsGiven, TlsMode } from './tls-settings.js';

/** Where the server listens. */
export interface Reach {
  /** Only this machine can connect. */
  readonly local: boolean;
  /** For messages. */
  readonly host: string;
  /** Whoever runs it wants no protection. */
  readonly insecure: boolean;
}

export interface TlsPlan {
  readonly mode: TlsMode;
  /** What everybody who runs this should know; null: nothing. */
  readonly warning: string | null;
}

const HOW = 'give it keys with --tls-dir, or with --tls-cert and --tls-key, or with --tls-psk';

/**
 * @param files - The files of `given`, found.
 * @throws UsageError that says what to give instead
 */
export function planTls(given: TlsGiven, files: TlsFiles, reach: Reach): TlsPlan {
  checkFiles(given, files);
  const hasKeys = files.cert !== null || files.psk !== null;
  const open = reach.local || (reach.insecure && !hasKeys);
  const mode = given.mode ?? (open ? 'off' : 'required');
  if (mode !== 'required' && !reach.local && !reach.insecure)
    throw new UsageError(
      `Anybody who reaches ${reach.host} could read and write the images, unencrypted; use --tls required, or listen on 127.0.0.1, or add --insecure`,
    );
  if (mode !== 'off' && !hasKeys)
    throw new UsageError(
      given.mode === null
        ? `A server on ${reach.host}, where others can connect, speaks TLS: ${HOW}; or listen on 127.0.0.1 and use an SSH tunnel, or add --insecure`
        : `--tls ${mode} needs keys: ${HOW}`,
    );
  if (mode === 'off') refuseUnused(given, hasKeys);
  if (mode === 'required' && given.only !== null)
    throw new UsageError('--tls-only is for --tls on; with --tls required every export needs TLS');
  const knowsClients = files.ca !== null || files.psk !== null || given.rights !== null;
  if (mode === 'required' && !reach.local && !reach.insecure && !knowsClients)
    throw new UsageError(
      `Anybody who reaches ${reach.host} could read and write the images: no client has to prove who it is; give --tls-ca, --tls-psk or --rights, or add --insecure`,
    );
  const exposed = !reach.local && (mode !== 'required' || !knowsClients);
  const warning = exposed ? 'Anybody who reaches this address can read and write the images' : null;
  return { mode, warning };
}

function checkFiles({ dir, files: named }: TlsGiven, files: TlsFiles): void {
  const { cert, key, ca, crl, psk } = files;
  if (dir !== null && cert === null && psk === null)
    throw new UsageError(`${dir} has neither server-cert.pem nor keys.psk; see README.md, "TLS"`);
  if (cert !== null && key === null)
    throw new UsageError(`The key of ${cert} is missing; give --tls-key`);
  if (cert === null && key !== null)
    throw new UsageError(`The certificate of ${key} is missing; give --tls-cert`);
  // A file that got lost must not open the door.
  if (dir !== null && cert !== null && named.cert === null && ca === null)
    throw new UsageError(
      `${dir} has no ca-cert.pem; if clients need no certificate, use --tls-cert and --tls-key instead of --tls-dir`,
    );
  if (ca !== null && cert === null)
    throw new UsageError(`${ca} is of no use without a certificate; give --tls-cert and --tls-key`);
  if (crl !== null && ca === null)
    throw new UsageError(`${crl} is of no use without its authority; give --tls-ca`);
}

function refuseUnused(given: TlsGiven, hasKeys: boolean): void {
  if (given.rights !== null)
    throw new UsageError('--rights needs clients that prove who they are; add --tls required');
  if (given.only !== null)
    throw new UsageError('--tls-only needs TLS; add --tls on, and keys with --tls-dir');
  if (hasKeys && given.mode === null)
    throw new UsageError(
      'There are keys for TLS, but it is off where only this machine can connect; add --tls required, --tls on or --tls off',
    );
}

import { UsageError } from '../usage-error.js';

/** A certificate and the key of it. */
export interface CertificateFiles {
  readonly cert: string;
  readonly key: string;
}

/**
 * @param flags - Their names, for the message.
 * @throws UsageError if only one of the two was given
 */
export function certificatePair(
  cert: string | null,
  key: string | null,
  flags: { readonly cert: string; readonly key: string },
): CertificateFiles | null {
  if (cert !== null && key !== null) return { cert, key };
  if (cert === null && key === null) return null;
  throw new UsageError(`--${flags.cert} and --${flags.key} go together; give both or neither`);
}

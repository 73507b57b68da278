/** Why a connection with TLS failed, in words that say what to do: OpenSSL's own name lines of its source. */

interface TlsProblem {
  readonly problem: string;
  readonly advice: string;
}

const UNKNOWN_AUTHORITY: TlsProblem = {
  problem: 'its certificate is not signed by an authority that we trust',
  advice: 'check which CA certificate is configured for etcd',
};
const NOT_VALID_NOW: TlsProblem = {
  problem: 'its certificate has expired or is not valid yet',
  advice: "renew etcd's certificate, and check the clocks",
};
const REFUSES_OURS: TlsProblem = {
  problem: 'it does not accept our client certificate, or wants one',
  advice: 'configure a client certificate that is signed by an authority etcd trusts',
};

/** By the codes of Node. */
const PROBLEMS: Readonly<Record<string, TlsProblem>> = {
  DEPTH_ZERO_SELF_SIGNED_CERT: UNKNOWN_AUTHORITY,
  SELF_SIGNED_CERT_IN_CHAIN: UNKNOWN_AUTHORITY,
  UNABLE_TO_GET_ISSUER_CERT: UNKNOWN_AUTHORITY,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: UNKNOWN_AUTHORITY,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: UNKNOWN_AUTHORITY,
  CERT_SIGNATURE_FAILURE: UNKNOWN_AUTHORITY,
  CERT_HAS_EXPIRED: NOT_VALID_NOW,
  CERT_NOT_YET_VALID: NOT_VALID_NOW,
  ERR_SSL_SSLV3_ALERT_BAD_CERTIFICATE: REFUSES_OURS,
  ERR_SSL_SSLV3_ALERT_CERTIFICATE_UNKNOWN: REFUSES_OURS,
  ERR_SSL_SSLV3_ALERT_CERTIFICATE_EXPIRED: REFUSES_OURS,
  ERR_SSL_TLSV1_ALERT_UNKNOWN_CA: REFUSES_OURS,
  ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED: REFUSES_OURS,
  ERR_TLS_CERT_ALTNAME_INVALID: {
    problem: 'its certificate is for other names',
    advice: 'use a name or address that it is for, or make one that names this one too',
  },
  ERR_SSL_WRONG_VERSION_NUMBER: {
    problem: 'it does not speak TLS',
    advice: 'use http:// for an etcd without certificates',
  },
};

/** Null: it is not about TLS. */
export function tlsProblem(error: unknown): TlsProblem | null {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (typeof code !== 'string') return null;
  // Older releases of Node have one code for all that OpenSSL says of a first answer that it does not know.
  return PROBLEMS[code === 'EPROTO' ? 'ERR_SSL_WRONG_VERSION_NUMBER' : code] ?? null;
}

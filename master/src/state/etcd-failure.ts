/** What etcd's refusals mean, and whether asking again may help. */
import { StoreError, type ErrorCode } from '@store/core';
import type { EtcdJson } from './etcd-json.js';

// Codes of gRPC that etcd uses.
const CANCELLED = 1;
const UNKNOWN = 2;
const INVALID_ARGUMENT = 3;
const DEADLINE_EXCEEDED = 4;
const NOT_FOUND = 5;
const PERMISSION_DENIED = 7;
const RESOURCE_EXHAUSTED = 8;
const ABORTED = 10;
const OUT_OF_RANGE = 11;
const INTERNAL = 13;
const UNAVAILABLE = 14;
const UNAUTHENTICATED = 16;

/**
 * - `unsent`: etcd has not even begun; another endpoint may.
 * - `in-doubt`: it may have been done, or may still be.
 * - `token`: the token was refused, and nothing done; a new one helps.
 * - `too-long`: the answer would be; ask for less.
 * - `compacted`: the revision that was asked for is gone.
 * - `no-lease`: the lease is over, and nothing was done.
 * - `no-space`: etcd is full; it was done or it was not, and will not be any more.
 * - `refused`: etcd will not do it, and asking again does not help.
 */
export type FailureKind =
  'unsent' | 'in-doubt' | 'token' | 'too-long' | 'compacted' | 'no-lease' | 'no-space' | 'refused';

export class EtcdFailure extends Error {
  override name = 'EtcdFailure';
  readonly kind: FailureKind;
  readonly #code: ErrorCode;

  constructor(
    kind: FailureKind,
    message: string,
    options: { code?: ErrorCode; cause?: unknown } = {},
  ) {
    super(message, { cause: options.cause });
    this.kind = kind;
    this.#code = options.code ?? 'E_UNREACHABLE';
  }

  /** For whoever did not expect it. */
  toStoreError(): StoreError {
    return new StoreError(this.#code, this.message, { cause: this });
  }
}

/** @param answer - One that is not 200, or a message of a stream that has an `error`. */
export function failureOf(origin: string, status: number, answer: EtcdJson): EtcdFailure {
  const body = answer.hasObject('error') ? answer.object('error') : answer;
  const text = body.text('message') || body.text('error');
  const code = body.number('code') || body.number('grpc_code');
  const said = `etcd at ${origin} says: ${text || `HTTP status ${status}`}`;
  switch (code) {
    case INVALID_ARGUMENT:
      return invalidArgument(text, said);
    case NOT_FOUND:
      return text.includes('lease')
        ? new EtcdFailure('no-lease', 'The lease is over, and its keys are gone', {
            code: 'E_NOT_FOUND',
          })
        : new EtcdFailure('refused', said, { code: 'E_SYSTEM' });
    case PERMISSION_DENIED:
      return denied(
        `${said}; configure a user of etcd with a role that may read and write all keys of the cluster`,
      );
    case RESOURCE_EXHAUSTED:
      return exhausted(text, said);
    case OUT_OF_RANGE:
      return new EtcdFailure('compacted', said);
    case UNAUTHENTICATED:
      return new EtcdFailure('token', said, { code: 'E_DENIED' });
    case CANCELLED:
    case UNKNOWN:
    case DEADLINE_EXCEEDED:
    case ABORTED:
    case INTERNAL:
    case UNAVAILABLE:
    case 0:
      return new EtcdFailure('in-doubt', said);
    default:
      return text.includes('authentication is not enabled')
        ? denied(`${said}; leave out the user, or create users and run: etcdctl auth enable`)
        : new EtcdFailure('refused', said, { code: 'E_SYSTEM' });
  }
}

/** An answer that the JSON gateway did not make. */
export function notJson(origin: string, text: string): EtcdFailure {
  // With authentication on, etcd fears that somebody takes this name for that of a user.
  if (text.includes('CommonName of client'))
    return denied(
      `etcd at ${origin} refuses client certificates with a common name while its authentication is on; use one without, such as of the subject '/O=store'`,
    );
  return new EtcdFailure('in-doubt', `${origin} does not speak etcd`);
}

function invalidArgument(text: string, said: string): EtcdFailure {
  if (text.includes('revision of auth store is old'))
    return new EtcdFailure('token', said, { code: 'E_DENIED' });
  if (text.includes('user name is empty'))
    return denied(`${said}; etcd wants a user: configure its name and password`);
  if (text.includes('authentication failed'))
    return denied(`${said}; check the name and the password of the etcd user`);
  return new EtcdFailure('refused', said, { code: 'E_INVALID' });
}

function exhausted(text: string, said: string): EtcdFailure {
  if (text.includes('larger than max')) return new EtcdFailure('too-long', said);
  if (text.includes('too many requests')) return new EtcdFailure('unsent', said);
  return new EtcdFailure(
    'no-space',
    `${said}; make room in etcd: etcdctl compact --physical REVISION, etcdctl defrag, then: etcdctl alarm disarm`,
    { code: 'E_NO_SPACE' },
  );
}

function denied(message: string): EtcdFailure {
  return new EtcdFailure('refused', message, { code: 'E_DENIED' });
}

/** What may be asked of a state store, the same for all of them; checked before anything is sent or stored. */
import { invariant, StoreError } from '@store/core';
import type { StateCommit } from './state-store.js';

export const STATE_KEY_BYTES_MAX = 400;
/** Values of one commit together. etcd refuses requests of more than 1.5 MiB. */
export const COMMIT_BYTES_MAX: number = 1024 * 1024;
/** Conditions, and changes, of one commit. etcd takes 128, some of which we need ourselves. */
export const COMMIT_PARTS_MAX = 100;
/** etcd counts in seconds, and gives no less than one and a half times its election timeout. */
export const LEASE_MS_MIN = 1000;
export const LEASE_MS_MAX: number = 24 * 60 * 60 * 1000;

/** Printable ASCII without spaces: the order of characters is the order of bytes. */
const KEY = /^[\x21-\x7e]*$/;

/** @throws StoreError `E_INVALID` */
export function checkPrefix(prefix: string): void {
  if (!KEY.test(prefix) || prefix.length > STATE_KEY_BYTES_MAX)
    throw invalid(
      `'${prefix}' cannot begin a key: at most ${STATE_KEY_BYTES_MAX} printable ASCII characters without spaces`,
    );
}

/** @throws StoreError `E_INVALID` */
export function checkCommit({ conditions, changes }: StateCommit): void {
  for (const parts of [conditions, changes]) {
    if (parts.length > COMMIT_PARTS_MAX)
      throw invalid(`A commit has at most ${COMMIT_PARTS_MAX} conditions and changes`);
    for (const { key } of parts) {
      if (key === '') throw invalid('A key is not empty');
      checkPrefix(key);
    }
    if (new Set(parts.map(({ key }) => key)).size !== parts.length)
      throw invalid('A commit names a key once in its conditions, and once in its changes');
  }
  for (const { revision } of conditions)
    invariant(Number.isSafeInteger(revision) && revision >= 0, 'a revision is 0 or more');
  let bytes = 0;
  for (const { value } of changes) bytes += value?.length ?? 0;
  if (bytes > COMMIT_BYTES_MAX)
    throw invalid(`${bytes} bytes are too much for one commit, which takes ${COMMIT_BYTES_MAX}`);
}

/** @throws StoreError `E_INVALID` */
export function checkLeaseMs(ttlMs: number): void {
  if (!(ttlMs >= LEASE_MS_MIN && ttlMs <= LEASE_MS_MAX))
    throw invalid(`A lease lasts ${LEASE_MS_MIN} to ${LEASE_MS_MAX} ms, not ${ttlMs}`);
}

/**
 * @param reached - Revision of the store.
 * @throws StoreError `E_INVALID`
 */
export function checkCompaction(revision: number, reached: number): void {
  invariant(Number.isSafeInteger(revision) && revision >= 0, 'a revision is 0 or more');
  if (revision > reached)
    throw invalid(`Revision ${revision} cannot be compacted: the store is at ${reached}`);
}

function invalid(message: string): StoreError {
  return new StoreError('E_INVALID', message);
}

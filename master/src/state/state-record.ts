/**
 * The embedded state store's entries as bytes. The checksum covers the key as well: a value that stands under another
 * key is as wrong as one that changed.
 */
import { crc32c, invariant, StoreError } from '@store/core';

/** Changing a record means a new one. */
export const STATE_FORMAT_VERSION = 1;

// Keys in the metadata store: one byte that says which kind, then the key.
const KIND_HEAD = 1;
const KIND_ENTRY = 2;

// Record, big-endian:
const AT_CRC = 0; //       4  CRC-32C of the key with its kind, then of the record from AT_FLAGS on
const AT_FLAGS = 4; //     1  FLAG_LEASED
const AT_REVISION = 5; //  6  of the last change; in the head: of the store
const AT_VALUE = 11; //    the rest; in the head nothing

/** The key is bound to a lease of the process that wrote it, and vanishes with it. */
const FLAG_LEASED = 1;

export interface StateRecord {
  readonly revision: number;
  readonly isLeased: boolean;
  readonly value: Buffer;
}

/** Where the revision of the whole store stands. */
export const HEAD_KEY: Buffer = Buffer.from([KIND_HEAD]);
/** All entries are from here, inclusive, */
export const ENTRIES_START: Buffer = Buffer.from([KIND_ENTRY]);
/** to here, exclusive. */
export const ENTRIES_END: Buffer = Buffer.from([KIND_ENTRY + 1]);

export function entryKey(key: string): Buffer {
  return Buffer.concat([ENTRIES_START, Buffer.from(key, 'latin1')]);
}

/** The key of an entry, from what `entryKey` made of it. */
export function keyOfEntry(storedKey: Buffer): string {
  return storedKey.toString('latin1', 1);
}

export function encodeRecord(storedKey: Buffer, record: StateRecord): Buffer {
  invariant(Number.isSafeInteger(record.revision), 'a revision is an exact number');
  const out = Buffer.allocUnsafe(AT_VALUE + record.value.length);
  out.writeUInt8(record.isLeased ? FLAG_LEASED : 0, AT_FLAGS);
  out.writeUIntBE(record.revision, AT_REVISION, 6);
  record.value.copy(out, AT_VALUE);
  out.writeUInt32BE(checksum(storedKey, out), AT_CRC);
  return out;
}

/**
 * The value is a view of `bytes`.
 * @throws StoreError `E_CHECKSUM` naming the key
 */
export function decodeRecord(storedKey: Buffer, bytes: Buffer): StateRecord {
  const isGood =
    bytes.length >= AT_VALUE && bytes.readUInt32BE(AT_CRC) === checksum(storedKey, bytes);
  const flags = isGood ? bytes.readUInt8(AT_FLAGS) : -1;
  if (flags !== 0 && flags !== FLAG_LEASED) {
    const what = storedKey.equals(HEAD_KEY) ? 'revision' : `key '${keyOfEntry(storedKey)}'`;
    throw new StoreError(
      'E_CHECKSUM',
      `The ${what} of the masters' state is damaged; restore the folder from a copy`,
    );
  }
  return {
    revision: bytes.readUIntBE(AT_REVISION, 6),
    isLeased: flags === FLAG_LEASED,
    value: bytes.subarray(AT_VALUE),
  };
}

function checksum(storedKey: Buffer, record: Buffer): number {
  return crc32c(record.subarray(AT_FLAGS), crc32c(storedKey));
}

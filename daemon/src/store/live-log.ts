/**
 * `live`: what lets a killed process lose nothing. A write that changes what the metadata will say is also appended
 * here, without a sync, before it is answered. As long as the kernel runs these bytes are there; after a power cut
 * they are ignored, because nothing says which of them reached the disk.
 *
 * Two files take turns. One is emptied once a transaction has recorded everything in it (`liveSequence` of the
 * store record), so that neither grows without end.
 */
import { crc32c, type AppendFile, type Disk, type ObjectKind } from '@store/core';
import type { StoredObject } from './stored-object.js';

const FILE_NAMES = ['live.0', 'live.1'] as const;

// Record, big-endian: body bytes u32, CRC-32C of the rest u32, type u8, sequence u64, then by type.
const RECORD_HEAD_BYTES = 17;
/** Nothing we write is longer; a larger number is garbage. */
const RECORD_BYTES_MAX = 8 * 1024 * 1024;

export const LIVE_TYPE = {
  /** First of a file: boot token and start id. */
  begin: 1,
  /** Blocks `first..first+count` of an object are in `state`, its length and version are these. */
  state: 2,
  /** As `state` (data), with the bytes: they are not in their place yet. */
  parked: 3,
  /** The bytes of the parked record with number `of` are in their place. */
  landed: 4,
  /** The object is gone. */
  removed: 5,
} as const;

/** What a record says of an object. */
export interface LiveObject {
  readonly headKey: Buffer;
  readonly kind: ObjectKind;
  readonly objectId: number;
  readonly slot: number;
  readonly length: number;
  readonly version: number;
}

export type LiveRecord =
  | {
      readonly type: 'state';
      sequence: number;
      object: LiveObject;
      first: number;
      count: number;
      state: number;
    }
  | { readonly type: 'parked'; sequence: number; object: LiveObject; first: number; bytes: Buffer }
  | { readonly type: 'landed'; sequence: number; of: number }
  | { readonly type: 'removed'; sequence: number; object: LiveObject };

export class LiveLog {
  readonly #files: readonly [AppendFile, AppendFile];
  #current: 0 | 1 = 0;
  #sequence: number;
  /** Number of the last record in each file; unknown, and so never recorded, until `restart`. */
  readonly #lastIn: [number, number] = [Infinity, Infinity];
  readonly #begin: Buffer;
  readonly #switchBytes: number;

  /**
   * Opens the files as they are; nothing may be appended before `restart`.
   * @param sequence - the last number that is in the metadata
   * @param switchBytes - at this size the other file takes over, as soon as it is empty
   */
  constructor(
    disk: Disk,
    token: string,
    startId: Buffer,
    { sequence, switchBytes }: { sequence: number; switchBytes: number },
  ) {
    this.#files = [disk.openAppendFile(FILE_NAMES[0]), disk.openAppendFile(FILE_NAMES[1])];
    this.#sequence = sequence;
    this.#switchBytes = switchBytes;
    this.#begin = Buffer.concat([startId, Buffer.from(token)]);
  }

  /** Goes on after the numbers that recovery found in the files. */
  skipTo(sequence: number): void {
    this.#sequence = Math.max(this.#sequence, sequence);
  }

  /** Empties both files: everything in them is in the metadata, or lost. @throws DiskError */
  restart(): void {
    for (const index of [0, 1] as const) this.#empty(index);
  }

  /** Number of the last record. */
  get sequence(): number {
    return this.#sequence;
  }

  /** The other file should be emptied by a flush: this one is full. */
  get wantsFlush(): boolean {
    return this.#files[this.#current].bytes >= this.#switchBytes;
  }

  /** @throws DiskError */
  appendState(object: StoredObject, first: number, count: number, state: number): void {
    const range = Buffer.allocUnsafe(5);
    range.writeUInt16BE(first, 0);
    range.writeUInt16BE(count, 2);
    range[4] = state;
    this.#append(LIVE_TYPE.state, [encodeObject(object), range]);
  }

  /** @returns the number to give to `appendLanded`. @throws DiskError */
  appendParked(object: StoredObject, first: number, bytes: Buffer): number {
    const at = Buffer.allocUnsafe(2);
    at.writeUInt16BE(first, 0);
    this.#append(LIVE_TYPE.parked, [encodeObject(object), at, bytes]);
    return this.#sequence;
  }

  /** @throws DiskError */
  appendLanded(sequence: number): void {
    this.#append(LIVE_TYPE.landed, [encodeU64(sequence)]);
  }

  /** @throws DiskError */
  appendRemoved(object: StoredObject): void {
    this.#append(LIVE_TYPE.removed, [encodeObject(object)]);
  }

  /** Everything up to `sequence` is in the metadata. @throws DiskError */
  recorded(sequence: number): void {
    for (const index of [0, 1] as const)
      if (!this.#isEmpty(index) && this.#lastIn[index] <= sequence)
        if (index !== this.#current || this.wantsFlush) this.#empty(index);
    const other = this.#current === 0 ? 1 : 0;
    if (this.wantsFlush && this.#isEmpty(other)) this.#current = other;
  }

  close(): void {
    for (const file of this.#files) file.close();
  }

  /** An empty file holds its first record: it says that this boot's records would be here. */
  #empty(index: 0 | 1): void {
    const file = this.#files[index];
    file.truncate();
    file.append(encodeRecord(LIVE_TYPE.begin, this.#sequence, [this.#begin]));
    this.#lastIn[index] = 0;
  }

  #isEmpty(index: 0 | 1): boolean {
    return this.#lastIn[index] === 0;
  }

  #append(type: number, body: readonly Buffer[]): void {
    const sequence = this.#sequence + 1;
    this.#files[this.#current].append(encodeRecord(type, sequence, body));
    this.#sequence = sequence;
    this.#lastIn[this.#current] = sequence;
  }
}

/**
 * The records after number `recorded` in order, if the files were begun under the present boot of the machine; else
 * null: nothing in them can be believed, and what was not flushed may be gone.
 */
export function readLive(disk: Disk, token: string, recorded: number): LiveRecord[] | null {
  const records: LiveRecord[] = [];
  let begun = 0;
  for (const name of FILE_NAMES) {
    const file = disk.openAppendFile(name);
    const bytes = file.readAll();
    file.close();
    // Killed while one was emptied: it may hold nothing, the other one tells.
    if (bytes.length === 0) continue;
    if (!readFile(bytes, token, recorded, records)) return null;
    begun += 1;
  }
  if (begun === 0) return null;
  return records.sort((left, right) => left.sequence - right.sequence);
}

/** @returns false if the file was begun under another boot */
function readFile(bytes: Buffer, token: string, recorded: number, records: LiveRecord[]): boolean {
  let at = 0;
  let begun = false;
  while (at + RECORD_HEAD_BYTES <= bytes.length) {
    const bodyBytes = bytes.readUInt32BE(at);
    const end = at + RECORD_HEAD_BYTES + bodyBytes;
    // A torn record is the last one, and was never answered.
    if (bodyBytes > RECORD_BYTES_MAX || end > bytes.length) break;
    if (crc32c(bytes.subarray(at + 8, end)) !== bytes.readUInt32BE(at + 4)) break;
    const type = bytes[at + 8] ?? 0;
    const sequence = readU64(bytes, at + 9);
    const body = bytes.subarray(at + RECORD_HEAD_BYTES, end);
    if (type === LIVE_TYPE.begin) {
      if (body.subarray(16).toString() !== token) return false;
      begun = true;
    } else if (begun && sequence > recorded) {
      const record = decodeRecord(type, sequence, body);
      if (record !== null) records.push(record);
    }
    at = end;
  }
  return begun;
}

function encodeRecord(type: number, sequence: number, body: readonly Buffer[]): Buffer[] {
  let bodyBytes = 0;
  for (const part of body) bodyBytes += part.length;
  const head = Buffer.allocUnsafe(RECORD_HEAD_BYTES);
  head.writeUInt32BE(bodyBytes, 0);
  head[8] = type;
  encodeU64(sequence).copy(head, 9);
  let crc = crc32c(head.subarray(8));
  for (const part of body) crc = crc32c(part, crc);
  head.writeUInt32BE(crc, 4);
  return [head, ...body];
}

const OBJECT_HEAD_BYTES = 27;

function encodeObject(object: StoredObject): Buffer {
  const key = object.headKey;
  const out = Buffer.allocUnsafe(OBJECT_HEAD_BYTES + key.length);
  out.writeUInt16BE(key.length, 0);
  out[2] = object.kind;
  encodeU64(object.objectId).copy(out, 3);
  out.writeUInt32BE(object.slot, 11);
  out.writeUInt32BE(object.latestLength, 15);
  encodeU64(object.latestVersion).copy(out, 19);
  key.copy(out, OBJECT_HEAD_BYTES);
  return out;
}

function decodeObject(body: Buffer): { object: LiveObject; rest: Buffer } {
  const end = OBJECT_HEAD_BYTES + body.readUInt16BE(0);
  const object = {
    headKey: Buffer.from(body.subarray(OBJECT_HEAD_BYTES, end)),
    kind: body[2] as ObjectKind, // checked by the record's CRC: we wrote it
    objectId: readU64(body, 3),
    slot: body.readUInt32BE(11),
    length: body.readUInt32BE(15),
    version: readU64(body, 19),
  };
  return { object, rest: body.subarray(end) };
}

function decodeRecord(type: number, sequence: number, body: Buffer): LiveRecord | null {
  switch (type) {
    case LIVE_TYPE.state: {
      const { object, rest } = decodeObject(body);
      const [first, count] = [rest.readUInt16BE(0), rest.readUInt16BE(2)];
      return { type: 'state', sequence, object, first, count, state: rest[4] ?? 0 };
    }
    case LIVE_TYPE.parked: {
      const { object, rest } = decodeObject(body);
      const bytes = Buffer.from(rest.subarray(2));
      return { type: 'parked', sequence, object, first: rest.readUInt16BE(0), bytes };
    }
    case LIVE_TYPE.landed:
      return { type: 'landed', sequence, of: readU64(body, 0) };
    case LIVE_TYPE.removed:
      return { type: 'removed', sequence, object: decodeObject(body).object };
    default:
      return null;
  }
}

function encodeU64(value: number): Buffer {
  const out = Buffer.allocUnsafe(8);
  out.writeUInt32BE(Math.floor(value / 2 ** 32), 0);
  out.writeUInt32BE(value >>> 0, 4);
  return out;
}

function readU64(bytes: Buffer, at: number): number {
  return bytes.readUInt32BE(at) * 2 ** 32 + bytes.readUInt32BE(at + 4);
}

/**
 * Objects by the names that requests carry: making an `ObjectRef` costs two hashes, and clients ask for the same objects
 * again and again. They are found by a checksum of their names, which is quicker than making a string of these each
 * time.
 */
import { crc32cShort, ObjectRef, NAMES_START, RecentMap, type ObjectRequest } from '@store/core';

const REFS_MAX = 4096;
/** Of all names in a generation; a client may use long ones. */
const NAMES_BYTES_MAX = 1024 * 1024;

export class ObjectNames {
  readonly #refs = new RecentMap<ObjectRef>({ countMax: REFS_MAX, bytesMax: NAMES_BYTES_MAX });

  /** The object that a request names. @throws StoreError `E_INVALID` */
  refOf(body: Buffer, request: ObjectRequest): ObjectRef {
    const { namesEnd } = request;
    const checksum = crc32cShort(body, NAMES_START, namesEnd) | 0; // a small integer: no memory for each
    const recent = this.#refs.get(checksum);
    if (recent !== undefined && isNamed(recent, body, request)) return recent;
    const older = this.#refs.getOlder(checksum);
    const ref = older !== undefined && isNamed(older, body, request) ? older : made(body, request);
    // Of two with one checksum the last is kept.
    this.#refs.set(checksum, ref, namesEnd - NAMES_START);
    return ref;
  }
}

/** True if it is what the request names, and not another with the same checksum. */
function isNamed(ref: ObjectRef, body: Buffer, { kind, keyEnd, namesEnd }: ObjectRequest): boolean {
  return (
    ref.kind === kind &&
    isAt(ref.key, body, NAMES_START, keyEnd) &&
    (namesEnd === keyEnd ? ref.isOwnLocator : isAt(ref.locator, body, keyEnd, namesEnd))
  );
}

/** Byte by byte: names are short. */
function isAt(name: Buffer, body: Buffer, start: number, end: number): boolean {
  if (name.length !== end - start) return false;
  for (let at = 0; at < name.length; at += 1) if (name[at] !== body[start + at]) return false;
  return true;
}

function made(body: Buffer, { kind, keyEnd, namesEnd }: ObjectRequest): ObjectRef {
  const key = body.subarray(NAMES_START, keyEnd);
  return new ObjectRef(kind, key, namesEnd === keyEnd ? key : body.subarray(keyEnd, namesEnd));
}

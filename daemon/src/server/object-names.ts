/**
 * Objects by the names that requests carry: making an `ObjectRef` costs two hashes, and clients ask for the same objects
 * again and again. Two generations of bounded size, so that forgetting costs nothing until one is full.
 */
import { ObjectRef, NAMES_START, type ObjectRequest } from '@store/core';

const REFS_MAX = 4096;
/** Of all names in a generation; a client may use long ones. */
const NAMES_BYTES_MAX = 1024 * 1024;

export class ObjectNames {
  #refs = new Map<string, ObjectRef>();
  #older = new Map<string, ObjectRef>();
  #bytes = 0;

  /** The object that a request names. @throws StoreError `E_INVALID` */
  refOf(body: Buffer, request: ObjectRequest): ObjectRef {
    const { kind, keyEnd, namesEnd } = request;
    // The lengths tell apart names that run together alike.
    const name = `${kind} ${keyEnd} ${body.toString('latin1', NAMES_START, namesEnd)}`;
    let ref = this.#refs.get(name);
    if (ref !== undefined) return ref;
    ref = this.#older.get(name) ?? made(body, request);
    if (this.#refs.size === REFS_MAX || this.#bytes > NAMES_BYTES_MAX) {
      this.#bytes = 0;
      this.#older = this.#refs;
      this.#refs = new Map();
    }
    this.#refs.set(name, ref);
    this.#bytes += name.length;
    return ref;
  }
}

function made(body: Buffer, { kind, keyEnd, namesEnd }: ObjectRequest): ObjectRef {
  const key = body.subarray(NAMES_START, keyEnd);
  return new ObjectRef(kind, key, namesEnd === keyEnd ? key : body.subarray(keyEnd, namesEnd));
}

/**
 * Where the bytes of an image are: byte `o` is in data object `o / objectBytes` of the layer that is written to.
 * A data object's key is `<layer>_<index>`; its locator `<family>_<index>` keeps the layers of one index together.
 */
import { createHash } from 'node:crypto';
import { OBJECT_KIND, ObjectRef } from '../pool/object-pool.js';

/** Random identities are 16 bytes in hex. */
const ID = /^[0-9a-f]{32}$/;
/** Identities of images the ancestor made; the prefix keeps them apart from every random one. */
const ANCESTOR_ID = /^ancestor-[0-9a-f]{32}$/;
const DATA_KEY = /^((?:ancestor-)?[0-9a-f]{32}_)(\d{1,10})$/;

/** What striping needs of an image. */
export interface Stripes {
  readonly layer: string;
  readonly family: string;
}

/** True for the identity of an image, layer or family. */
export function isImageId(text: string): boolean {
  return ID.test(text) || ANCESTOR_ID.test(text);
}

/** The identity of an image of the ancestor's kind, whose header has no room for one: made from its name. */
export function ancestorId(name: string): string {
  return `ancestor-${createHash('sha256').update(name).digest('hex').slice(0, 32)}`;
}

/** True for what {@link dataRef} makes keys of. */
export function isDataKey(key: string): boolean {
  return DATA_KEY.test(key);
}

/** What the keys of all data objects of a layer begin with. */
export function dataKeyPrefix(layer: string): Buffer {
  return Buffer.from(`${layer}_`);
}

/** The data object `index` of a layer. */
export function dataRef(stripes: Stripes, index: number): ObjectRef {
  const { layer, family } = stripes;
  return new ObjectRef(OBJECT_KIND.imageData, `${layer}_${index}`, `${family}_${index}`);
}

/** The index in the key of a data object; null if it is none. */
export function indexOfDataKey(key: Buffer): number | null {
  return splitDataKey(key.toString('latin1'))?.index ?? null;
}

/** The key of a data object, one character a byte: what all of its layer begin with, and its index; null if it is none. */
export function splitDataKey(key: string): { prefix: string; index: number } | null {
  const [, prefix, digits] = DATA_KEY.exec(key) ?? [];
  return prefix === undefined ? null : { prefix, index: Number(digits) };
}

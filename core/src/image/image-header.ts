/**
 * The header of an image: a small JSON document in an object named like the image, changed only by
 * compare-and-swap. The ancestor's kind is understood too: the size as 8 big-endian bytes and nothing else.
 *
 * Validation is strict in both directions. A field this version does not know is refused, not ignored: rewriting
 * the header would drop it, and with it what a newer version relies on.
 */
import { StoreError } from '../util/errors.js';
import {
  IMAGE_BYTES_MAX,
  INLINE_BYTES_MAX,
  OBJECT_BYTES,
  OBJECT_BYTES_MIN,
} from '../util/limits.js';
import { formatSize } from '../util/size.js';
import { invariant } from '../util/invariant.js';
import { writerProblem, type ImageWriter } from './image-writer.js';
import { ancestorId, isImageId } from './striping.js';

export const IMAGE_FORMAT = 'store-image-1';
/** Bytes of an ancestor's header. */
export const ANCESTOR_HEADER_BYTES = 8;
/**
 * Sizes are whole sectors. The kernel's nbd client counts in sectors of 512 bytes and would cut off the rest, so a
 * last part of a sector could be written through one client and be missing in another. Whole 4 KiB blocks are
 * not demanded: real disks whose contents people bring along have any number of sectors.
 */
export const SECTOR_BYTES = 512;

/**
 * What is going on with an image. `shrinking`: `size` is already the new one, the data behind it is being removed.
 * `removing`: it is going away and cannot be opened. Whoever finds one of these can finish it.
 */
export const IMAGE_STATES = ['ready', 'shrinking', 'removing'] as const;
export type ImageState = (typeof IMAGE_STATES)[number];

export interface ImageLayer {
  readonly id: string;
  /** Up to this byte absent blocks show the next layer of the chain; 0 in the last one, which has none below. */
  readonly overlap: number;
}

export interface ImageHeader {
  readonly format: typeof IMAGE_FORMAT;
  /** Never reused, unlike the name. */
  readonly id: string;
  /** Shared by an image and its clones; decides where data objects are placed. */
  readonly family: string;
  readonly size: number;
  readonly objectBytes: number;
  /** Top layer, which is written to, first. */
  readonly layers: readonly [ImageLayer, ...ImageLayer[]];
  /** Empty: this version makes none. */
  readonly snapshots: readonly never[];
  readonly metadata: Readonly<Record<string, string>>;
  /** Null: nobody was ever registered, and no group has a guard of it. */
  readonly writer: ImageWriter | null;
  readonly state: ImageState;
  /** The request that made the last change, so that a retry recognises its own success. */
  readonly request: string;
}

/** @throws StoreError `E_INVALID` unless `bytes` can be the size of an image */
export function checkImageSize(bytes: number): void {
  const problem = sizeProblem(bytes);
  if (problem !== null)
    throw new StoreError('E_INVALID', problem.charAt(0).toUpperCase() + problem.slice(1));
}

/** Encodes `header` for `compareAndSwap`. @throws StoreError `E_INVALID` if it does not fit */
export function encodeImageHeader(header: ImageHeader): Buffer {
  const bytes = Buffer.from(JSON.stringify(header));
  if (bytes.length > INLINE_BYTES_MAX)
    throw new StoreError(
      'E_INVALID',
      `The image header would have ${bytes.length} bytes, more than ${INLINE_BYTES_MAX}`,
    );
  const problem = problemOf(JSON.parse(bytes.toString()));
  invariant(problem === null, `a header that is written can be read: ${problem ?? ''}`);
  return bytes;
}

/** Decodes the header of the image `name`. @throws StoreError `E_FORMAT` naming the image and what is wrong */
export function decodeImageHeader(name: string, bytes: Buffer): ImageHeader {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    throw new StoreError('E_FORMAT', `The header of image '${name}' is not JSON`, { cause: error });
  }
  const problem = problemOf(value);
  if (problem !== null)
    throw new StoreError('E_FORMAT', `The header of image '${name}' cannot be used: ${problem}`);
  return value as ImageHeader; // every field was just checked
}

/**
 * Makes of an ancestor's 8 bytes what a header of our own would say.
 * @throws StoreError `E_FORMAT` if the size cannot be
 */
export function decodeAncestorHeader(name: string, bytes: Buffer): ImageHeader {
  invariant(bytes.length === ANCESTOR_HEADER_BYTES, 'an ancestor header has 8 bytes');
  const size = bytes.readUInt32BE(0) * 2 ** 32 + bytes.readUInt32BE(4);
  const problem = sizeProblem(size);
  if (problem !== null)
    throw new StoreError(
      'E_FORMAT',
      `The 8-byte header of image '${name}' cannot be used: ${problem}`,
    );
  const id = ancestorId(name);
  return {
    format: IMAGE_FORMAT,
    id,
    family: id,
    size,
    objectBytes: OBJECT_BYTES,
    layers: [{ id, overlap: 0 }],
    snapshots: [],
    metadata: {},
    writer: null,
    state: 'ready',
    request: id,
  };
}

function sizeProblem(bytes: unknown): string | null {
  if (typeof bytes !== 'number' || !Number.isSafeInteger(bytes)) return 'the size is not a number';
  if (bytes < SECTOR_BYTES || bytes % SECTOR_BYTES !== 0)
    return `an image has at least ${SECTOR_BYTES} bytes, and a multiple of ${SECTOR_BYTES}, unlike ${bytes}`;
  if (bytes > IMAGE_BYTES_MAX)
    return `an image has at most ${formatSize(IMAGE_BYTES_MAX)}, not ${formatSize(bytes)}`;
  return null;
}

/** What is wrong with a parsed header, or null. */
function problemOf(value: unknown): string | null {
  if (!isRecord(value)) return 'it is not a JSON object';
  if (value['format'] !== IMAGE_FORMAT)
    return `its format is ${JSON.stringify(value['format'])} and this version reads '${IMAGE_FORMAT}'; use the version of the program that wrote it`;
  for (const [field, isValid] of Object.entries(FIELDS))
    if (!isValid(value[field])) return `'${field}' is ${shorten(JSON.stringify(value[field]))}`;
  const unknown = Object.keys(value).find((field) => !Object.hasOwn(FIELDS, field));
  return unknown === undefined
    ? sizeProblem(value['size'])
    : `'${unknown}' is not known to this version`;
}

const FIELDS: Record<keyof ImageHeader, (value: unknown) => boolean> = {
  format: (value) => value === IMAGE_FORMAT,
  id: isId,
  family: isId,
  size: (value) => sizeProblem(value) === null,
  objectBytes: (value) =>
    typeof value === 'number' && value >= OBJECT_BYTES_MIN && Number.isInteger(Math.log2(value)),
  layers: (value) =>
    Array.isArray(value) && value.length >= 1 && value.every(isLayer) && lastHasNoneBelow(value),
  snapshots: (value) => Array.isArray(value) && value.length === 0,
  metadata: (value) =>
    isRecord(value) && Object.values(value).every((text) => typeof text === 'string'),
  writer: (value) => value === null || writerProblem(value) === null,
  state: (value) => IMAGE_STATES.some((state) => state === value),
  request: isId,
};

function isId(value: unknown): boolean {
  return typeof value === 'string' && isImageId(value);
}

function isLayer(value: unknown): value is ImageLayer {
  if (!isRecord(value) || Object.keys(value).length !== 2) return false;
  const { id, overlap } = value;
  return isId(id) && Number.isSafeInteger(overlap) && Number(overlap) >= 0;
}

function lastHasNoneBelow(layers: readonly ImageLayer[]): boolean {
  return layers.at(-1)?.overlap === 0;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function shorten(text: string | undefined): string {
  if (text === undefined) return 'missing';
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

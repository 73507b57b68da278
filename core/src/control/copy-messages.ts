/** What a master asks daemons about a copy of a group, in sync or not, and about other members, as JSON, and what they answer. */
import { MAP_ID_MAX, MEMBERS_MAX } from '../map/map-limits.js';
import { StoreError } from '../util/errors.js';
import { booleanIn, numberIn, textIn, textsIn, type JsonFields } from '../wire/json-body.js';

export interface CopyRequest {
  readonly pool: number;
  readonly group: number;
}

/** What a copy holds. */
export interface CopyContents {
  readonly objects: number;
  readonly usedBytes: number;
  /** False: there was no time to look at more. */
  readonly isAll: boolean;
  /** Objects that are no data of an image. */
  readonly otherObjects: number;
  /** Of images, by the layer they are of; those with the most objects first. */
  readonly layers: readonly LayerPart[];
  /** Layers that are not among these. */
  readonly moreLayers: number;
}

export interface LayerPart {
  /** Its id. */
  readonly layer: string;
  readonly objects: number;
}

/** Which images, of those whose header lies at the daemon that is asked, have these layers? */
export interface LayerNamesRequest {
  readonly pool: number;
  readonly layers: readonly string[];
}

/** As many are told and asked for, so that their names fit into a body. */
export const LAYERS_TOLD_MAX = 50;
const LAYER_BYTES_MAX = 64;
const NAME_BYTES_MAX = 512;
const GROUP_MAX = 0xffff;
const MAX: number = Number.MAX_SAFE_INTEGER;

export function encodeCopyRequest(request: CopyRequest): JsonFields {
  return { ...request };
}

/** @throws StoreError `E_BAD_FRAME` */
export function decodeCopyRequest(fields: JsonFields): CopyRequest {
  return {
    pool: numberIn(fields, 'pool', MAP_ID_MAX),
    group: numberIn(fields, 'group', GROUP_MAX),
  };
}

export function encodeCopyContents(contents: CopyContents): JsonFields {
  return { ...contents };
}

/** @throws StoreError `E_BAD_FRAME` */
export function decodeCopyContents(fields: JsonFields): CopyContents {
  const { layers } = fields;
  if (!Array.isArray(layers) || layers.length > LAYERS_TOLD_MAX)
    throw new StoreError('E_BAD_FRAME', 'What a daemon says of a copy cannot be read');
  return {
    objects: numberIn(fields, 'objects', MAX),
    usedBytes: numberIn(fields, 'usedBytes', MAX),
    isAll: booleanIn(fields, 'isAll'),
    otherObjects: numberIn(fields, 'otherObjects', MAX),
    layers: layers.map(layerPartIn),
    moreLayers: numberIn(fields, 'moreLayers', MAX),
  };
}

/** @param daemons - Ids: those that are asked about, or those of them that there is a link with. */
export function encodeLinks(daemons: readonly number[]): JsonFields {
  return { daemons };
}

/** @throws StoreError `E_BAD_FRAME` */
export function decodeLinks({ daemons }: JsonFields): number[] {
  if (!Array.isArray(daemons) || daemons.length > MEMBERS_MAX || !daemons.every(isDaemonId))
    throw new StoreError('E_BAD_FRAME', 'A list of daemons cannot be read');
  return daemons;
}

export function encodeLayerNamesRequest({ pool, layers }: LayerNamesRequest): JsonFields {
  return { pool, layers: layers.slice(0, LAYERS_TOLD_MAX) };
}

/** @throws StoreError `E_BAD_FRAME` */
export function decodeLayerNamesRequest(fields: JsonFields): LayerNamesRequest {
  const layers = textsIn(fields, 'layers', LAYER_BYTES_MAX);
  if (layers.length > LAYERS_TOLD_MAX)
    throw new StoreError('E_BAD_FRAME', `At most ${LAYERS_TOLD_MAX} layers are asked for at once`);
  return { pool: numberIn(fields, 'pool', MAP_ID_MAX), layers };
}

/** @param names - Of images, by the ids of their layers. */
export function encodeLayerNames(names: ReadonlyMap<string, string>): JsonFields {
  return { layers: [...names.keys()], names: [...names.values()] };
}

/** @throws StoreError `E_BAD_FRAME` */
export function decodeLayerNames(fields: JsonFields): Map<string, string> {
  const layers = textsIn(fields, 'layers', LAYER_BYTES_MAX);
  const names = textsIn(fields, 'names', NAME_BYTES_MAX);
  if (layers.length !== names.length)
    throw new StoreError('E_BAD_FRAME', 'Some layers have no name, or some names no layer');
  return new Map(layers.map((layer, index) => [layer, names[index] ?? '']));
}

function isDaemonId(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value > 0 && value <= MAP_ID_MAX;
}

function layerPartIn(value: unknown): LayerPart {
  if (typeof value !== 'object' || value === null)
    throw new StoreError('E_BAD_FRAME', 'A part of a message is no object');
  const fields = value as JsonFields; // JSON.parse made it
  return {
    layer: textIn(fields, 'layer', LAYER_BYTES_MAX),
    objects: numberIn(fields, 'objects', MAX),
  };
}

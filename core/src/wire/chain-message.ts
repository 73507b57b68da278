/** REGISTER_CHAIN: the layers of an image, and who writes to it, for requests to name by a handle. */
import { chainHandle, checkClaimedChain, type ClaimedChain } from '../pool/chain.js';
import {
  IMAGE_ID_BYTES_MAX,
  LAYER_ID_BYTES_MAX,
  LAYER_NUMBER_MAX,
  type Claim,
} from '../pool/guard.js';
import { StoreError } from '../util/errors.js';
import { IMAGE_BYTES_MAX } from '../util/limits.js';
import { decodeJson, encodeJson, numberIn, textIn, type JsonFields } from './json-body.js';

const HANDLE_MAX: number = 2 ** 48 - 1;

export function encodeChain({ layers, claim }: ClaimedChain): Buffer {
  const listed = layers.map(({ id, overlap }) => ({ id, overlap }));
  if (claim === null) return encodeJson({ layers: listed });
  const { image, token, layer } = claim;
  return encodeJson({ layers: listed, claim: { image, token, layer } });
}

/** @throws StoreError `E_BAD_FRAME`, `E_INVALID` */
export function decodeChain(body: Buffer): ClaimedChain {
  const { layers, claim } = decodeJson(body);
  if (!Array.isArray(layers))
    throw new StoreError('E_BAD_FRAME', "Field 'layers' of a message is not a list");
  const chain = {
    layers: layers.map((layer: unknown) => {
      const fields = fieldsOf(layer, "Field 'layers' of a message holds no layers");
      return {
        id: textIn(fields, 'id', LAYER_ID_BYTES_MAX),
        overlap: numberIn(fields, 'overlap', IMAGE_BYTES_MAX),
      };
    }),
    claim: claim === undefined ? null : decodeClaim(claim),
  };
  checkClaimedChain(chain);
  return chain;
}

export function encodeChainAnswer(chain: ClaimedChain): Buffer {
  return encodeJson({ handle: chainHandle(chain) });
}

/** @throws StoreError `E_BAD_FRAME` if both ends do not mean the same chain */
export function decodeChainAnswer(body: Buffer, chain: ClaimedChain): number {
  const handle = numberIn(decodeJson(body), 'handle', HANDLE_MAX);
  if (handle !== chainHandle(chain))
    throw new StoreError('E_BAD_FRAME', 'The daemon understood another chain of layers');
  return handle;
}

function decodeClaim(value: unknown): Claim {
  const fields = fieldsOf(value, "Field 'claim' of a message is no claim");
  return {
    image: textIn(fields, 'image', IMAGE_ID_BYTES_MAX),
    token: numberIn(fields, 'token', Number.MAX_SAFE_INTEGER),
    layer: numberIn(fields, 'layer', LAYER_NUMBER_MAX),
  };
}

function fieldsOf(value: unknown, problem: string): JsonFields {
  if (typeof value !== 'object' || value === null) throw new StoreError('E_BAD_FRAME', problem);
  return value as JsonFields; // an object that JSON.parse made has text as keys
}

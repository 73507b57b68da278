/** REGISTER_CHAIN: the layers of an image, for requests to name by a handle. */
import { chainHandle, checkChain, LAYER_ID_BYTES_MAX, type Chain } from '../pool/chain.js';
import { StoreError } from '../util/errors.js';
import { IMAGE_BYTES_MAX } from '../util/limits.js';
import { decodeJson, encodeJson, numberIn, textIn, type JsonFields } from './json-body.js';

const HANDLE_MAX: number = 2 ** 48 - 1;

export function encodeChain(chain: Chain): Buffer {
  return encodeJson({ layers: chain.map(({ id, overlap }) => ({ id, overlap })) });
}

/** @throws StoreError `E_BAD_FRAME`, `E_INVALID` */
export function decodeChain(body: Buffer): Chain {
  const { layers } = decodeJson(body);
  if (!Array.isArray(layers))
    throw new StoreError('E_BAD_FRAME', "Field 'layers' of a message is not a list");
  const chain = layers.map((layer: unknown) => {
    if (typeof layer !== 'object' || layer === null)
      throw new StoreError('E_BAD_FRAME', "Field 'layers' of a message holds no layers");
    const fields = layer as JsonFields; // an object that JSON.parse made has text as keys
    return {
      id: textIn(fields, 'id', LAYER_ID_BYTES_MAX),
      overlap: numberIn(fields, 'overlap', IMAGE_BYTES_MAX),
    };
  });
  checkChain(chain);
  return chain;
}

export function encodeChainAnswer(chain: Chain): Buffer {
  return encodeJson({ handle: chainHandle(chain) });
}

/** @throws StoreError `E_BAD_FRAME` if both ends do not mean the same chain */
export function decodeChainAnswer(body: Buffer, chain: Chain): number {
  const handle = numberIn(decodeJson(body), 'handle', HANDLE_MAX);
  if (handle !== chainHandle(chain))
    throw new StoreError('E_BAD_FRAME', 'The daemon understood another chain of layers');
  return handle;
}

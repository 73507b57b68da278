/**
 * A chain of layers: what an image is made of, the newest layer first. A block that is absent in one layer shows the next
 * one, as far as that one reaches, and zeros where no layer has it.
 *
 * Data objects of one index lie in the same place in all layers of a family (they share their locator), so whoever has the
 * objects can resolve the chain without asking anybody.
 */
import { createHash } from 'node:crypto';
import { StoreError } from '../util/errors.js';
import { IMAGE_BYTES_MAX } from '../util/limits.js';
import { checkClaim, LAYER_ID_BYTES_MAX, type Claim } from './guard.js';
import { OBJECT_KIND, ObjectRef } from './object-pool.js';

export interface ChainLayer {
  /** Keys of its data objects are `<id>_<index>`. */
  readonly id: string;
  /** So many bytes of the image it shows; above nothing falls through to it. The newest layer shows everything. */
  readonly overlap: number;
}

/** Newest first; at least one. */
export type Chain = readonly ChainLayer[];

/** A chain as a client registers it: with the claim of the writer of the image, if it may change something. */
export interface ClaimedChain {
  readonly layers: Chain;
  /** Null: nobody's. */
  readonly claim: Claim | null;
}

export const CHAIN_LAYERS_MAX = 256;
const HANDLE_BYTES = 6;

/** @throws StoreError `E_INVALID` */
export function checkChain(chain: Chain): void {
  if (chain.length < 1 || chain.length > CHAIN_LAYERS_MAX)
    throw new StoreError('E_INVALID', `A chain has 1 to ${CHAIN_LAYERS_MAX} layers`);
  for (const { id, overlap } of chain) {
    const bytes = Buffer.byteLength(id);
    if (bytes < 1 || bytes > LAYER_ID_BYTES_MAX)
      throw new StoreError('E_INVALID', `The id of a layer has 1 to ${LAYER_ID_BYTES_MAX} bytes`);
    if (!Number.isInteger(overlap) || overlap < 0 || overlap > IMAGE_BYTES_MAX)
      throw new StoreError('E_INVALID', `A layer shows 0 to ${IMAGE_BYTES_MAX} bytes of an image`);
  }
}

/** @throws StoreError `E_INVALID` */
export function checkClaimedChain({ layers, claim }: ClaimedChain): void {
  checkChain(layers);
  if (claim !== null) checkClaim(claim);
}

/**
 * What requests name a chain by: the hash of what is in it, so it cannot mean another one. 1 to 2^48 - 1.
 */
export function chainHandle({ layers, claim }: ClaimedChain): number {
  const hash = createHash('sha256');
  for (const { id, overlap } of layers) hash.update(`${Buffer.byteLength(id)} ${id} ${overlap}\n`);
  if (claim !== null) {
    const { image, token, layer } = claim;
    hash.update(`claim ${Buffer.byteLength(image)} ${image} ${token} ${layer}\n`);
  }
  return Math.max(1, hash.digest().readUIntBE(0, HANDLE_BYTES));
}

/**
 * Keeps a chain that requests name. One of an earlier writer of the same image is forgotten: nothing it asks for is done any
 * more, and whoever takes the role again and again would leave one behind each time.
 */
export function keepChain(
  chains: Map<number, ClaimedChain>,
  handle: number,
  chain: ClaimedChain,
): void {
  const { claim } = chain;
  if (claim !== null && !chains.has(handle))
    for (const [older, { claim: other }] of chains)
      if (other?.image === claim.image && other.token < claim.token) chains.delete(older);
  chains.set(handle, chain);
}

/** The index of a data object of the newest layer. @throws StoreError `E_INVALID` if it is none of this chain's */
export function indexInChain(chain: Chain, ref: ObjectRef): number {
  const top = `${chain[0]?.id ?? ''}_`;
  const digits = ref.id.startsWith(top) ? ref.id.slice(top.length) : '';
  if (ref.kind !== OBJECT_KIND.imageData || !/^\d{1,10}$/.test(digits))
    throw new StoreError('E_INVALID', `'${ref.key.toString()}' is no data of this chain's image`);
  return Number(digits);
}

/** The objects of one index in the layers below the newest one. */
export function refsBelow(chain: Chain, ref: ObjectRef, index: number): ObjectRef[] {
  return chain
    .slice(1)
    .map(({ id }) => new ObjectRef(OBJECT_KIND.imageData, `${id}_${index}`, ref.locator));
}

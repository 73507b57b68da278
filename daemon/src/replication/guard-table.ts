/**
 * The guards of one group, at its primary: what is stored of them, and from the moment a raise is let in what it says. So a
 * change that is let in after a raise is compared with it, and one that was let in before comes before it.
 *
 * - A claim must be exactly what the guard says. A higher one than that was never raised here, and nobody could tell it
 *   from one that was made up; without a guard there is no writer, as of an image that was removed.
 * - A change without a claim is refused where there is a guard for its layer, but for a delete that names the version it
 *   removes: it takes away nothing but what somebody has listed, as who removes an image or its end does, and a version
 *   never comes back.
 * - Images that no writer was ever registered for have no guard, and are changed by whoever may.
 */
import {
  OBJECT_KIND,
  StoreError,
  type Guard,
  type GuardChange,
  type LayerClaim,
  type ObjectRef,
} from '@store/core';

/** Of a guard that cannot be read: nobody's claim equals it, and every raise is higher. */
const UNREADABLE = 0;

export class GuardTable {
  readonly #byImage = new Map<string, Guard>();
  readonly #byLayer = new Map<string, Guard>();

  get count(): number {
    return this.#byImage.size;
  }

  /** The guard of an image; undefined: there is none. */
  of(image: string): Guard | undefined {
    return this.#byImage.get(image);
  }

  /** What is stored, before the group serves. */
  load(guard: Guard): void {
    this.#set(guard);
  }

  /** There is one, and nobody can read it: nobody is the writer until somebody takes the role. */
  loadUnreadable(image: string): void {
    this.#set({ image, token: UNREADABLE, layer: 0, layerId: '' });
  }

  /**
   * Why data of an image are not changed; null: they are. Nothing is allocated for what is let through with a claim.
   * @param claim - Null: none
   * @param version - That a delete names; 0: it names none, or it is no delete
   */
  refusal(claim: LayerClaim | null, ref: ObjectRef, version = 0): StoreError | null {
    if (ref.kind !== OBJECT_KIND.imageData) return null;
    if (claim === null) return version === 0 ? this.#unclaimedRefusal(ref) : null;
    const guard = this.#byImage.get(claim.image);
    if (guard?.token !== claim.token || guard.layer !== claim.layer) return refused(claim, guard);
    if (ref.id.startsWith(claim.keyPrefix)) return null;
    return new StoreError('E_INVALID', `'${ref.key.toString()}' is no data of the claimed layer`);
  }

  /** @returns Why it is refused; null: it counts from now on */
  change(change: GuardChange): StoreError | null {
    const { image, token } = change.kind === 'raise' ? change.guard : change;
    const now = this.#byImage.get(image);
    if (now !== undefined && now.token > token) return fenced(image, token, now.token);
    if (change.kind === 'remove') {
      this.#remove(image);
      return null;
    }
    const { guard } = change;
    if (now?.token === token) {
      if (now.layer > guard.layer) return sealed(image, guard.layer, now.layer);
      if (now.layer === guard.layer && now.layerId !== guard.layerId)
        return new StoreError(
          'E_INVALID',
          `Layer ${guard.layer} of image ${image} is ${now.layerId} here, not ${guard.layerId}`,
        );
    }
    this.#set(guard);
    return null;
  }

  #unclaimedRefusal(ref: ObjectRef): StoreError | null {
    if (this.#byLayer.size === 0) return null;
    const guard = this.#byLayer.get(ref.id.slice(0, ref.id.lastIndexOf('_')));
    if (guard === undefined) return null;
    return new StoreError(
      'E_FENCED',
      `'${ref.key.toString()}' belongs to an image that only its writer changes`,
    );
  }

  #set(guard: Guard): void {
    this.#remove(guard.image);
    this.#byImage.set(guard.image, guard);
    if (guard.layerId !== '') this.#byLayer.set(guard.layerId, guard);
  }

  #remove(image: string): void {
    const guard = this.#byImage.get(image);
    if (guard === undefined) return;
    this.#byImage.delete(image);
    this.#byLayer.delete(guard.layerId);
  }
}

function refused(claim: LayerClaim, guard: Guard | undefined): StoreError {
  const { image, token, layer } = claim;
  if (guard?.token === token && guard.layer > layer) return sealed(image, layer, guard.layer);
  return fenced(image, token, guard?.token ?? UNREADABLE);
}

function fenced(image: string, token: number, now: number): StoreError {
  return new StoreError(
    'E_FENCED',
    now > token
      ? `Another writer has image ${image} since: it has token ${now}, this one has ${token}`
      : `Token ${token} is not that of the writer of image ${image}, which has ${now === UNREADABLE ? 'none' : now} here`,
  );
}

function sealed(image: string, layer: number, now: number): StoreError {
  return new StoreError(
    'E_SEALED',
    `Layer ${layer} of image ${image} is sealed: layer ${now} is written to`,
  );
}

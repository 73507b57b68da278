import { invariant } from './invariant.js';

/** The unit of checksums, block states and linearizability. */
export const BLOCK_BYTES = 4096;
/** Size of an image's data objects, and of a slot on disk. */
export const OBJECT_BYTES = 4 * 1024 * 1024;
export const OBJECT_BYTES_MIN = 64 * 1024;
export const BLOCKS_PER_OBJECT: number = OBJECT_BYTES / BLOCK_BYTES;

export const KEY_BYTES_MAX = 512;
export const POOL_NAME_BYTES_MAX = 128;
/** Image names leave room for `_<index>` and `@snapshot` in a key. */
export const IMAGE_NAME_BYTES_MAX = 255;

/** Objects changed by compare-and-swap are stored whole in the metadata store. */
export const INLINE_BYTES_MAX = 64 * 1024;
export const LIST_PAGE_MAX = 1000;

/** What one UDP packet carries over IPv4. */
export const DATAGRAM_BYTES_MAX = 65_507;

/** 1 PiB: 2^28 objects. Far below 2^53, so that every offset of an image is an exact number. */
export const IMAGE_BYTES_MAX: number = 2 ** 50;

invariant(OBJECT_BYTES % BLOCK_BYTES === 0, 'an object is a whole number of blocks');
invariant(OBJECT_BYTES_MIN % BLOCK_BYTES === 0, 'the smallest object is a whole number of blocks');
invariant(IMAGE_BYTES_MAX < Number.MAX_SAFE_INTEGER, 'image offsets are exact');

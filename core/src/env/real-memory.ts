/**
 * Gives memory back without waiting for the garbage collector, which looks at what the heap holds and knows little of
 * the buffers behind it: tens of megabytes that nobody uses stay resident until it comes by.
 *
 * `madvise(MADV_DONTNEED)` takes the pages and leaves the addresses: what is read there afterwards is zeros, what is
 * written gets fresh pages. So no view has to be detached, and the allocator keeps its bookkeeping.
 */
import { addressOf, loadLibrary, pageBytes } from '../util/native-library.js';

const MADV_DONTNEED = 4;

type DropPages = (memory: Uint8Array) => boolean;

let loaded: DropPages | null | undefined;

/**
 * Gives the whole pages of `memory` back to the system; their bytes are lost. Nobody may be using them: neither this
 * process nor a system call that is under way.
 * @returns False, and nothing happens, where that cannot be done
 */
export function dropPages(memory: Uint8Array): boolean {
  if (loaded === undefined) loaded = process.platform === 'linux' ? load() : null;
  return loaded?.(memory) ?? false;
}

function load(): DropPages | null {
  const libc = loadLibrary('libc.so.6');
  const bytes = pageBytes();
  if (libc === null || bytes === null) return null;
  // koffi has no types for functions made from a declaration; these are theirs
  const madvise = libc.func('int madvise(uint64_t, uint64_t, int)') as unknown as (
    ...parameters: [number, number, number]
  ) => number;
  return (memory) => {
    const address = addressOf(memory);
    // The kernel rounds a length up: a page that is not all ours would take the neighbour's bytes with it.
    const start = Math.ceil(address / bytes) * bytes;
    const end = Math.floor((address + memory.length) / bytes) * bytes;
    return end <= start || madvise(start, end - start, MADV_DONTNEED) === 0;
  };
}

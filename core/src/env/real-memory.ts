/**
 * Gives memory back without waiting for the garbage collector, which looks at what the heap holds and knows little of
 * the buffers behind it: tens of megabytes that nobody uses stay resident until it comes by.
 *
 * `madvise(MADV_DONTNEED)` takes the pages and leaves the addresses: what is read there afterwards is zeros, what is
 * written gets fresh pages. So no view has to be detached, and the allocator keeps its bookkeeping.
 */
import { addressOf, loadLibrary } from '../util/native-library.js';

const MADV_DONTNEED = 4;
const SC_PAGESIZE = 30;

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
  if (libc === null) return null;
  // koffi has no types for functions made from a declaration; these are theirs
  const madvise = libc.func('int madvise(uint64_t, uint64_t, int)') as unknown as (
    ...parameters: [number, number, number]
  ) => number;
  const sysconf = libc.func('int64_t sysconf(int)') as unknown as (name: number) => number;
  const pageBytes = sysconf(SC_PAGESIZE);
  if (pageBytes < 1) return null;
  return (memory) => {
    const address = addressOf(memory);
    // The kernel rounds a length up: a page that is not all ours would take the neighbour's bytes with it.
    const start = Math.ceil(address / pageBytes) * pageBytes;
    const end = Math.floor((address + memory.length) / pageBytes) * pageBytes;
    return end <= start || madvise(start, end - start, MADV_DONTNEED) === 0;
  };
}

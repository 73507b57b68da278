/**
 * CPU and memory of a server with all its processes, from /proc. A server that forks for each connection is measured
 * as a whole: time of children that have ended is in their parent's account once it has waited for them.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';

/** Seconds. */
export interface CpuSeconds {
  readonly user: number;
  readonly system: number;
}

/** Linux counts in these, whatever the kernel's own tick is (USER_HZ). */
const TICKS_PER_SECOND = 100;

/** Processes of the tree that are alive: `root` and its descendants. */
export function processTree(root: number): number[] {
  const found = [root];
  for (const pid of found) found.push(...childrenOf(pid));
  return found;
}

/** CPU time of the tree since each process began. */
export function cpuOfTree(root: number): CpuSeconds {
  let user = 0;
  let system = 0;
  for (const pid of processTree(root)) {
    const text = readOrEmpty(`/proc/${pid}/stat`);
    // The name in brackets may contain anything; fields are counted from behind it, which is field 3.
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    const ticks = (field: number): number => Number(fields[field - 3] ?? 0);
    user += ticks(14) + ticks(16); // utime, cutime
    system += ticks(15) + ticks(17); // stime, cstime
  }
  return { user: user / TICKS_PER_SECOND, system: system / TICKS_PER_SECOND };
}

/** Whether a process is there and not merely waiting to be buried. */
export function isAlive(pid: number): boolean {
  const text = readOrEmpty(`/proc/${pid}/stat`);
  return text !== '' && !/^[ZX]/.test(text.slice(text.lastIndexOf(')') + 2));
}

/**
 * The most memory a tree had at a time since `start`: the peaks of the processes that were there together, added up,
 * which counts pages that several share several times. Exact for one process; children that come and go are sampled.
 */
export class PeakMemory {
  readonly #root: number;
  #peak = 0;
  readonly #timer: NodeJS.Timeout;

  private constructor(root: number) {
    this.#root = root;
    this.#timer = setInterval(() => this.#sample(), 250);
  }

  /** Forgets the peaks so far (VmHWM) and watches. */
  static start(root: number): PeakMemory {
    for (const pid of processTree(root)) forgetPeak(pid);
    return new PeakMemory(root);
  }

  /** @returns Bytes. */
  stop(): number {
    clearInterval(this.#timer);
    this.#sample();
    return this.#peak;
  }

  #sample(): void {
    const now = processTree(this.#root).reduce((sum, pid) => sum + peakOf(pid), 0);
    this.#peak = Math.max(this.#peak, now);
  }
}

function forgetPeak(pid: number): void {
  try {
    writeFileSync(`/proc/${pid}/clear_refs`, '5');
  } catch (error) {
    if (isAlive(pid)) throw error; // else it ended meanwhile
  }
}

function peakOf(pid: number): number {
  const kib = /^VmHWM:\s+(\d+) kB$/m.exec(readOrEmpty(`/proc/${pid}/status`))?.[1];
  return Number(kib ?? 0) * 1024;
}

function childrenOf(pid: number): number[] {
  return threadsOf(pid).flatMap((thread) =>
    readOrEmpty(`/proc/${pid}/task/${thread}/children`)
      .split(' ')
      .filter((text) => text !== '')
      .map(Number),
  );
}

function threadsOf(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/task`);
  } catch {
    return []; // it ended meanwhile
  }
}

function readOrEmpty(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return ''; // it ended meanwhile
  }
}

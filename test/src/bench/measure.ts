/** One measurement: the client's report, and what the server spent on it. */
import { writeFileSync } from 'node:fs';
import type { ClientReport } from './clients.js';
import { runFio } from './fio-client.js';
import { runNbdcopy } from './nbdcopy-client.js';
import { cpuOfTree, PeakMemory } from './process-tree.js';
import type { Programs } from './programs.js';
import { writes, type Row } from './rows.js';
import type { RunningServer } from './running-server.js';

export interface MeasureOptions {
  readonly folder: string;
  readonly sourceFile: string;
  readonly imageBytes: number;
  readonly seconds: number;
}

export interface Sample extends ClientReport {
  readonly round: number;
  readonly serverCpuSeconds: { readonly user: number; readonly system: number };
  /** Null if the number of requests is not known. */
  readonly cpuPer100kRequests: number | null;
  readonly cpuPerGib: number;
  readonly peakBytes: number;
  /**
   * The longest gap between two turns of our event loop, which are wanted every 10 ms: an upper bound of the longest
   * stall, at most 10 ms too high. With a daemon it is the gateway's. Null for peers.
   */
  readonly stallMs: number | null;
}

const SYNC_MS = 120_000;
const COPY_MS = 120_000;
const SCRAPE_MS = 5000;
const GIB = 1024 ** 3;

/** Does a row's work on a server, once. */
export async function measure(
  programs: Programs,
  server: RunningServer,
  row: Row,
  round: number,
  options: MeasureOptions,
): Promise<Sample> {
  if (!server.alive) throw new Error(`${server.kind.title} is dead`);
  if (row.cold) await dropPageCache(programs, options.folder);
  else if (row.stage !== 'sparse') await readAll(programs, server, options);
  await scrapeStall(server); // begins anew with each answer
  const memory = PeakMemory.start(server.pid);
  const before = cpuOfTree(server.pid);
  let report: ClientReport;
  let peakBytes: number;
  try {
    report = await runClient(programs, server, row, options);
  } finally {
    peakBytes = memory.stop();
  }
  const after = await settledCpu(server.pid);
  const stallMs = await scrapeStall(server);
  // What this one wrote must not be written back while the next is measured.
  if (writes(row)) await syncDisk(programs, options.folder);
  const user = after.user - before.user;
  const system = after.system - before.system;
  const cpu = user + system;
  return {
    ...report,
    round,
    serverCpuSeconds: { user, system },
    cpuPer100kRequests: report.requests === null ? null : (cpu / report.requests) * 1e5,
    cpuPerGib: (cpu / report.bytes) * GIB,
    peakBytes,
    stallMs,
  };
}

/** Everything dirty on the disk of `folder` is written. */
export async function syncDisk(programs: Programs, folder: string): Promise<void> {
  await programs.run('sync', ['--file-system', folder], { cwd: folder, limitMs: SYNC_MS });
}

function runClient(
  programs: Programs,
  server: RunningServer,
  row: Row,
  options: MeasureOptions,
): Promise<ClientReport> {
  const { work } = row;
  return work.client === 'fio'
    ? runFio(programs, server, row, work, options)
    : runNbdcopy(programs, server, work, { ...options, limitMs: COPY_MS });
}

/**
 * Puts the image into the page cache: while others were measured the kernel may have taken its pages away, and then it
 * would be chance who is measured with the disk.
 */
async function readAll(
  programs: Programs,
  server: RunningServer,
  options: MeasureOptions,
): Promise<void> {
  const work = { client: 'nbdcopy', direction: 'out', connections: 1 } as const;
  await runNbdcopy(programs, server, work, { ...options, limitMs: COPY_MS });
}

async function dropPageCache(programs: Programs, folder: string): Promise<void> {
  await syncDisk(programs, folder);
  writeFileSync('/proc/sys/vm/drop_caches', '3');
}

/** Children of a forking server count when their parent has waited for them, which takes a moment. */
async function settledCpu(pid: number): Promise<ReturnType<typeof cpuOfTree>> {
  await new Promise((resolve) => setTimeout(resolve, 50));
  return cpuOfTree(pid);
}

/** @returns Milliseconds since the last question; null for a server without an answer. */
async function scrapeStall({ metricsUrl }: RunningServer): Promise<number | null> {
  if (metricsUrl === null) return null;
  const response = await fetch(metricsUrl, { signal: AbortSignal.timeout(SCRAPE_MS) });
  const text = await response.text();
  const seconds = /^nodejs_eventloop_lag_max_seconds (\S+)$/m.exec(text)?.[1];
  if (seconds === undefined) throw new Error(`${metricsUrl} does not tell the event loop's lag`);
  return Number(seconds) * 1000;
}

/**
 * Runs all rows: stage by stage, in each stage round by round, in each round row by row, and for each row one server
 * after the other. So the runs that are compared are neighbours in time, and a bad minute of the machine hits one
 * round of a row, not all of them. Who begins changes from round to round.
 */
import { randomBytes } from 'node:crypto';
import { closeSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { messageOf } from '@store/core';
import { isInstalled } from '../host/command.js';
import { scatter, warmUp } from './fio-client.js';
import { measure, syncDisk } from './measure.js';
import { runNbdcopy } from './nbdcopy-client.js';
import type { Programs } from './programs.js';
import { Progress } from './progress.js';
import { STAGES, type Row, type Stage } from './rows.js';
import { RunningServer } from './running-server.js';
import { OURS, type ServerKind } from './server-kinds.js';
import { makeTlsKeys, storeTlsMissing } from './tls-keys.js';
import type { Cell, RowResult } from './verdict.js';

export interface RunOptions {
  readonly rows: readonly Row[];
  readonly kinds: readonly ServerKind[];
  readonly rounds: number;
  readonly seconds: number;
  readonly tcp: boolean;
  /** An empty folder. */
  readonly folder: string;
}

/** How a server was run, for the report. */
export interface ServerRecord {
  readonly stage: Stage;
  readonly name: string;
  readonly commandLine: string;
  readonly facts: RunningServer['facts'];
}

export interface RunResult {
  readonly results: readonly RowResult[];
  readonly servers: readonly ServerRecord[];
}

/** Size of the filled images. */
export const IMAGE_BYTES: number = 1024 ** 3;
/** Size of the almost empty ones. */
export const SPARSE_BYTES: number = 1024 ** 4;

const FILL_MS = 300_000;
const WARM_UP_SECONDS = 8;
const PIECE_BYTES = 4 * 1024 ** 2;

/** What every step needs. */
interface Context {
  readonly programs: Programs;
  readonly options: RunOptions;
  readonly progress: Progress;
  /** As large as a filled image. */
  readonly sourceFile: string;
}

/** @throws Error once the run is interrupted; what fails in one cell is the reason told there */
export async function runBench(programs: Programs, options: RunOptions): Promise<RunResult> {
  const results = await plan(options);
  const cells = results.flatMap((result) => result.cells).filter(({ reason }) => reason === null);
  const progress = new Progress(cells.length * options.rounds);
  const sourceFile = join(options.folder, 'source.raw');
  progress.note('making a file of random bytes');
  await makeSource(programs, sourceFile);
  const context = { programs, options, progress, sourceFile };
  const servers: ServerRecord[] = [];
  for (const stage of STAGES) {
    const ofStage = results.filter(({ row }) => row.stage === stage);
    if (ofStage.length > 0) servers.push(...(await runStage(context, stage, ofStage)));
  }
  return { results, servers };
}

/** The cells, with the reasons that are known before anything runs. */
async function plan({ rows, kinds }: RunOptions): Promise<RowResult[]> {
  const tlsMissing = await storeTlsMissing();
  const isRoot = process.getuid?.() === 0;
  const reasonFor = (kind: ServerKind, row: Row): string | null => {
    if (kind.program !== null && !isInstalled(kind.program))
      return `${kind.program} is not installed (${kind.install ?? 'make deps-test'})`;
    if (row.cold && !isRoot) return 'dropping the page cache needs root';
    if (row.stage === 'tls' && kind.name === OURS && tlsMissing !== null) return tlsMissing;
    return kind.cannot(row);
  };
  return rows.map((row) => ({
    row,
    cells: kinds.map((kind) => ({ kind, samples: [], reason: reasonFor(kind, row) })),
  }));
}

async function runStage(
  context: Context,
  stage: Stage,
  results: readonly RowResult[],
): Promise<ServerRecord[]> {
  const { programs, options, progress } = context;
  const servers = await startServers(context, stage, results);
  await syncDisk(programs, options.folder);
  const imageBytes = stage === 'sparse' ? SPARSE_BYTES : IMAGE_BYTES;
  const measureOptions = { ...context, ...options, imageBytes };
  for (let round = 1; round <= options.rounds; round++)
    for (const { row, cells } of results)
      for (const cell of rotated(cells, round - 1)) {
        const server = servers.get(cell.kind);
        if (server === undefined || cell.reason !== null) continue; // it cannot, or has failed
        try {
          const sample = await measure(programs, server, row, round, measureOptions);
          cell.samples.push(sample);
          progress.measured(round, row, cell.kind, sample.value);
        } catch (error) {
          programs.check(); // an interrupt is nobody's failure
          cell.reason = `failed: ${messageOf(error)}`;
          progress.failed(row, cell.kind, cell.reason, options.rounds - round + 1);
        }
      }
  for (const server of servers.values()) await server.stop();
  return [...servers.values()].map(({ kind, commandLine, facts }) => {
    return { stage, name: kind.name, commandLine, facts };
  });
}

/** Starts the servers that something is to be measured of, fills their images with the same data, and warms them up. */
async function startServers(
  context: Context,
  stage: Stage,
  results: readonly RowResult[],
): Promise<Map<ServerKind, RunningServer>> {
  const { programs, options, progress } = context;
  const servers = new Map<ServerKind, RunningServer>();
  const open = results.flatMap(({ cells }) => cells).filter(({ reason }) => reason === null);
  const kinds = options.kinds.filter((kind) => open.some((cell) => cell.kind === kind));
  const tls =
    stage === 'tls' && kinds.length > 0 ? await makeTlsKeys(programs, options.folder) : null;
  const imageBytes = stage === 'sparse' ? SPARSE_BYTES : IMAGE_BYTES;
  for (const kind of kinds) {
    progress.note(
      `starting ${kind.title}${tls === null ? '' : ' with TLS'}, filling its image, warming it up`,
    );
    try {
      const server = await RunningServer.start(programs, kind, {
        ...options,
        ...{ stage, imageBytes, tls },
      });
      await fill(context, server, stage);
      servers.set(kind, server);
    } catch (error) {
      programs.check(); // an interrupt is nobody's failure
      for (const { row, cells } of results)
        for (const cell of cells)
          if (cell.kind === kind && cell.reason === null) {
            cell.reason = `failed to start: ${messageOf(error)}`;
            progress.failed(row, kind, cell.reason, options.rounds);
          }
    }
  }
  return servers;
}

async function fill(
  { programs, options, sourceFile }: Context,
  server: RunningServer,
  stage: Stage,
): Promise<void> {
  const { folder, seconds } = options;
  if (stage === 'sparse') {
    await scatter(programs, server, { folder, imageBytes: SPARSE_BYTES, seconds });
    return;
  }
  const work = { client: 'nbdcopy', direction: 'in', connections: 1 } as const;
  const copy = { folder, sourceFile, imageBytes: IMAGE_BYTES, limitMs: FILL_MS };
  await runNbdcopy(programs, server, work, copy);
  await warmUp(programs, server, { folder, imageBytes: IMAGE_BYTES, seconds: WARM_UP_SECONDS });
}

/** Random, because servers and clients may treat zeros and repetition differently. */
async function makeSource(programs: Programs, path: string): Promise<void> {
  const file = openSync(path, 'w');
  try {
    for (let at = 0; at < IMAGE_BYTES; at += PIECE_BYTES) {
      programs.check();
      writeSync(file, randomBytes(PIECE_BYTES));
      await new Promise((resolve) => setImmediate(resolve)); // Ctrl-C is heard
    }
  } finally {
    closeSync(file);
  }
}

/** The cells, beginning with the one at `by`, around. */
function rotated(cells: readonly Cell[], by: number): readonly Cell[] {
  const at = by % cells.length;
  return [...cells.slice(at), ...cells.slice(0, at)];
}

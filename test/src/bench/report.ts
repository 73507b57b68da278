/** All there is to say about a run; `bench.json` is exactly this. */
import { IMAGE_BYTES, SPARSE_BYTES, type RunOptions, type RunResult } from './bench-run.js';
import { versionOf, type Machine } from './machine.js';
import { judgeDaemons, type DaemonVerdict } from './daemon-verdict.js';
import type { Sample } from './measure.js';
import type { Row } from './rows.js';
import { OURS } from './server-kinds.js';
import { judge, summarize, type CellSummary, type Verdict } from './verdict.js';

export interface ReportRow extends Row {
  /** By name of the server. */
  readonly cells: Readonly<Record<string, ReportCell>>;
  readonly verdict: Verdict;
}

export interface ReportCell {
  readonly summary: CellSummary | null;
  /** Why there are fewer samples than rounds, if there are. */
  readonly reason: string | null;
  readonly samples: readonly Sample[];
}

export interface ReportServer {
  readonly name: string;
  readonly title: string;
  readonly version: string | null;
  readonly flush: string;
  readonly durable: boolean;
  readonly isOurs: boolean;
  /** One for each stage. */
  readonly runs: RunResult['servers'];
}

export interface Report {
  readonly machine: Machine;
  readonly settings: {
    readonly rounds: number;
    readonly seconds: number;
    readonly tcp: boolean;
    readonly imageBytes: number;
    readonly sparseBytes: number;
  };
  /** Ours with its own store first. */
  readonly servers: readonly ReportServer[];
  readonly rows: readonly ReportRow[];
  /** One daemon behind the gateway, each of them in each row it was measured in. */
  readonly daemon: readonly DaemonVerdict[];
  /** The worst of all rows; null without a sample. */
  readonly ours: { readonly peakBytes: number | null; readonly stallMs: number | null };
}

/** Puts the report together. */
export async function reportOf(
  machine: Machine,
  options: RunOptions,
  { results, servers }: RunResult,
): Promise<Report> {
  const rows = results.map((result): ReportRow => {
    const cells = result.cells.map((cell) => {
      const { kind, reason, samples } = cell;
      return [kind.name, { summary: summarize(cell), reason, samples }] as const;
    });
    return { ...result.row, cells: Object.fromEntries(cells), verdict: judge(result) };
  });
  const { rounds, seconds, tcp } = options;
  return {
    machine,
    settings: { rounds, seconds, tcp, imageBytes: IMAGE_BYTES, sparseBytes: SPARSE_BYTES },
    servers: await Promise.all(
      options.kinds.map(async ({ name, title, program, flush, durable, isOurs }) => {
        const version = program === null ? machine.commit : await versionOf(program);
        const runs = servers.filter((server) => server.name === name);
        return { name, title, version, flush, durable, isOurs, runs };
      }),
    ),
    rows,
    daemon: results.flatMap(judgeDaemons),
    ours: { peakBytes: worst(rows, 'peakBytes'), stallMs: worst(rows, 'stallMs') },
  };
}

function worst(rows: readonly ReportRow[], what: 'peakBytes' | 'stallMs'): number | null {
  const values = rows
    .map(({ cells }) => cells[OURS]?.summary?.[what] ?? null)
    .filter((value) => value !== null);
  return values.length === 0 ? null : Math.max(...values);
}

/** What the samples of a row say about us beside the best peer, and whether that meets the goal. */
import type { Sample } from './measure.js';
import type { Row } from './rows.js';
import { OURS, type ServerKind } from './server-kinds.js';
import { medianOf, spreadOf, type Spread } from './statistics.js';

/** What was measured of one server in one row. */
export interface Cell {
  readonly kind: ServerKind;
  readonly samples: Sample[];
  /** Why there are fewer samples than rounds; null if there are not. */
  reason: string | null;
}

export interface RowResult {
  readonly row: Row;
  /** Ours with its own store first. */
  readonly cells: readonly Cell[];
}

/** Medians of a cell. */
export interface CellSummary {
  readonly value: Spread;
  readonly p50Us: number | null;
  readonly p99Us: number | null;
  readonly cpuPer100kRequests: number | null;
  readonly cpuPerGib: number;
  readonly clientCores: number;
  /** In most rounds. */
  readonly clientSaturated: boolean;
  /** The largest. */
  readonly peakBytes: number;
  /** The largest. */
  readonly stallMs: number | null;
}

export interface Verdict {
  /** The peer with the highest median; null without one that counts. */
  readonly best: string | null;
  /** Of the medians. */
  readonly ratio: number | null;
  /** Of the ratios of each round, whose two runs were neighbours in time. */
  readonly pairedRatio: Spread | null;
  readonly goal: number;
  /**
   * Our server CPU for the same work over that of the best peer. It decides where the client cannot ask for more:
   * a goal of 2 is then met by half of the peer's.
   */
  readonly cpuRatio: number | null;
  readonly met: 'yes' | 'yes, by CPU' | 'no' | '-';
}

/** Ours must stay below, always. */
export const PEAK_BYTES_MAX: number = 200e6;
/** Ours must stay below, always. */
export const STALL_MS_MAX = 50;

/** Null without samples. */
export function summarize(cell: Cell): CellSummary | null {
  const { samples } = cell;
  if (samples.length === 0) return null;
  const medianIfAny = (of: (sample: Sample) => number | null): number | null => {
    const values = samples.map(of).filter((value) => value !== null);
    return values.length === 0 ? null : medianOf(values);
  };
  const stalls = samples.map(({ stallMs }) => stallMs).filter((value) => value !== null);
  return {
    value: spreadOf(samples.map(({ value }) => value)),
    p50Us: medianIfAny(({ latencyUs }) => latencyUs?.p50 ?? null),
    p99Us: medianIfAny(({ latencyUs }) => latencyUs?.p99 ?? null),
    cpuPer100kRequests: medianIfAny((sample) => sample.cpuPer100kRequests),
    cpuPerGib: medianOf(samples.map(({ cpuPerGib }) => cpuPerGib)),
    clientCores: medianOf(samples.map(({ clientCores }) => clientCores)),
    clientSaturated:
      samples.filter(({ clientSaturated }) => clientSaturated).length * 2 > samples.length,
    peakBytes: Math.max(...samples.map(({ peakBytes }) => peakBytes)),
    stallMs: stalls.length === 0 ? null : Math.max(...stalls),
  };
}

/** Judges one row. */
export function judge({ row, cells }: RowResult): Verdict {
  const ours = cells.find(({ kind }) => kind.name === OURS);
  const us = ours === undefined ? null : summarize(ours);
  const rivals = cells
    .filter(({ kind }) => isRival(kind, row))
    .flatMap((cell) => {
      const summary = summarize(cell);
      return summary === null ? [] : [{ cell, summary }];
    })
    .sort((a, b) => b.summary.value.median - a.summary.value.median);
  const [best] = rivals;
  if (ours === undefined || us === null || best === undefined)
    return { best: null, ratio: null, pairedRatio: null, goal: row.goal, cpuRatio: null, met: '-' };
  const ratio = us.value.median / best.summary.value.median;
  const cpuRatio = us.cpuPerGib / best.summary.cpuPerGib;
  const byCpu = us.clientSaturated && cpuRatio <= 1 / row.goal;
  return {
    best: best.cell.kind.name,
    ratio,
    pairedRatio: pairedRatio(ours.samples, best.cell.samples),
    goal: row.goal,
    cpuRatio: Number.isFinite(cpuRatio) ? cpuRatio : null,
    met: ratio >= row.goal ? 'yes' : byCpu ? 'yes, by CPU' : 'no',
  };
}

/** Where durability is what is measured, a server without it is no rival; one of ours, or a cluster, never is. */
function isRival(kind: ServerKind, { work }: Row): boolean {
  const counts = work.client === 'fio' && work.fsyncEvery !== undefined;
  return !kind.isOurs && kind.isCluster !== true && (kind.durable || !counts);
}

/** The ratios of each round, in which both were measured. Null without one. */
export function pairedRatio(ours: readonly Sample[], theirs: readonly Sample[]): Spread | null {
  const ratios = ours.flatMap(({ round, value }) => {
    const other = theirs.find((sample) => sample.round === round);
    return other === undefined ? [] : [value / other.value];
  });
  return ratios.length === 0 ? null : spreadOf(ratios);
}

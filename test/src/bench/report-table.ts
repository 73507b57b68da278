/** The report for people: tables in Markdown, wide enough to read as they are on a terminal. */
import { describeMachine } from './machine.js';
import type { Report, ReportRow } from './report.js';
import { daemonSection } from './report-daemon.js';
import { table } from './markdown-table.js';
import { OURS } from './server-kinds.js';
import { PEAK_BYTES_MAX, STALL_MS_MAX, type CellSummary } from './verdict.js';

/** The whole report. */
export function reportMarkdown(report: Report): string {
  const { machine, settings } = report;
  return [
    `# NBD servers beside each other, ${machine.date}`,
    '',
    `${describeMachine(machine)}. Commit ${machine.commit ?? 'unknown'}, load before the run ${machine.loadBefore}.`,
    `${settings.rounds} rounds of ${settings.seconds} s over ${settings.tcp ? 'TCP on loopback' : 'Unix sockets'}, after the image was filled and 8 s of random reads and writes; medians.`,
    '',
    '## Speed',
    '',
    ...speedTable(report),
    '',
    `Ratio: our median over that of the best peer; in brackets the median of each round's own ratio and its spread. Met by CPU: fio could not ask for more (c), and our server CPU per request is within 1 / goal of the best peer's.`,
    '',
    ...daemonSection(report),
    '## Latency, p50 / p99 in us',
    '',
    ...cellTable(report, ({ p50Us, p99Us }) =>
      p50Us === null || p99Us === null ? '-' : `${short(p50Us)} / ${short(p99Us)}`,
    ),
    '',
    'From request to answer as fio sees it; with fsync, of the fsync; of a mix, the slower direction.',
    '',
    '## Server CPU, seconds per 100k requests / per GiB',
    '',
    ...cellTable(
      report,
      ({ cpuPer100kRequests: each, cpuPerGib }) =>
        `${each === null ? '-' : each.toFixed(2)} / ${cpuPerGib.toFixed(2)}`,
    ),
    '',
    '## Peak memory in MB, and our longest stall',
    '',
    ...memoryTable(report),
    '',
    `Ours must stay below ${PEAK_BYTES_MAX / 1e6} MB and ${STALL_MS_MAX} ms; at most it took ${mega(report.ours.peakBytes)} MB and stalled ${milli(report.ours.stallMs)} ms. A stall is the gap between two turns of the event loop, wanted every 10 ms: an upper bound. nbdkit memory holds the image itself; one daemon is two processes and the small one that starts them (some 45 MB), and its stall is the gateway's, in the JSON; nbd-server forks, and pages its processes share count for each.`,
    '',
    '## What fsync means, and what each was started with',
    '',
    ...report.servers.map(
      ({ title, version, flush, runs }) =>
        `- ${title} ${version ?? ''}: ${flush}. \`${runs[0]?.commandLine ?? 'not started'}\``,
    ),
    ...missing(report),
    '',
  ].join('\n');
}

function speedTable({ servers, rows }: Report): string[] {
  const header = ['work', 'unit', ...servers.map(({ title }) => title), 'ratio', 'goal', 'met'];
  const lines = rows.map((row) => {
    const { verdict } = row;
    const paired = verdict.pairedRatio;
    const ratio =
      verdict.ratio === null || paired === null
        ? '-'
        : `${verdict.ratio.toFixed(2)} (${paired.median.toFixed(2)}, ${paired.min.toFixed(2)}-${paired.max.toFixed(2)})`;
    const cells = servers.map(({ name }) => speed(row.cells[name]?.summary ?? null));
    return [row.title, row.unit, ...cells, ratio, `${verdict.goal}`, verdict.met];
  });
  return table(header, lines);
}

function speed(summary: CellSummary | null): string {
  if (summary === null) return '-';
  return `${Math.round(summary.value.median)}${summary.clientSaturated ? ' c' : ''}`;
}

function memoryTable(report: Report): string[] {
  const [header = [], ...lines] = cells(report, ({ peakBytes }) => mega(peakBytes));
  const withLimits = lines.map((line, index) => {
    const ours = report.rows[index]?.cells[OURS]?.summary ?? null;
    const tooMuch = ours !== null && ours.peakBytes > PEAK_BYTES_MAX ? ' !' : '';
    const stallMs = ours?.stallMs ?? null;
    const tooLong = stallMs !== null && stallMs >= STALL_MS_MAX ? ' !' : '';
    const [work = '', memory = '', ...peers] = line;
    return [work, memory + tooMuch, ...peers, milli(stallMs) + tooLong];
  });
  return table([...header, 'stall ms'], withLimits);
}

function cellTable(report: Report, text: (summary: CellSummary) => string): string[] {
  const [header = [], ...lines] = cells(report, text);
  return table(header, lines);
}

function cells({ servers, rows }: Report, text: (summary: CellSummary) => string): string[][] {
  const cell = (row: ReportRow, name: string): string => {
    const summary = row.cells[name]?.summary ?? null;
    return summary === null ? '-' : text(summary);
  };
  return [
    ['work', ...servers.map(({ title }) => title)],
    ...rows.map((row) => [row.title, ...servers.map(({ name }) => cell(row, name))]),
  ];
}

/** A reason that several rows or servers share is told once. */
function missing({ servers, rows }: Report): string[] {
  const places = new Map<string, { servers: Set<string>; rows: Set<string> }>();
  for (const { title, cells } of rows)
    for (const server of servers) {
      const reason = cells[server.name]?.reason ?? null;
      if (reason === null) continue;
      const place = places.get(reason) ?? { servers: new Set(), rows: new Set() };
      places.set(reason, place);
      place.servers.add(server.title);
      place.rows.add(title);
    }
  if (places.size === 0) return [];
  const lines = [...places].map(
    ([reason, place]) =>
      `- ${[...place.servers].join(', ')}: ${reason} (${[...place.rows].join('; ')})`,
  );
  return ['', '## What was not measured', '', ...lines];
}

function short(us: number): string {
  return us < 10 ? us.toFixed(1) : `${Math.round(us)}`;
}

function mega(bytes: number | null): string {
  return bytes === null ? '-' : `${Math.round(bytes / 1e6)}`;
}

function milli(ms: number | null): string {
  return ms === null ? '-' : ms.toFixed(0);
}

/**
 * The report as a picture: for each row a group of bars, one for each server, as long as its share of the fastest in
 * that row. It looks right on light and on dark pages, and without scripts or fonts of its own.
 */
import type { Machine } from './machine.js';
import type { Report, ReportRow } from './report.js';

const WIDTH = 960;
const MARGIN = 24;
/** Where bars begin, and how long the longest is. */
const BAR_X = 250;
const BAR_WIDTH = 480;
const BAR_HEIGHT = 11;
const BAR_STEP = 13;
const GROUP_GAP = 14;
const HEADER_HEIGHT = 118;
const LEGEND_STEP = 180;
const LEGEND_COLUMNS = 4;
const LEGEND_LINE = 16;

/** Of ours, then of peers. */
const LIGHT = {
  ours: ['#0b63ce', '#4f9be8', '#93c4f5'],
  peers: ['#d97706', '#eab873', '#7c5cc4', '#7b8494', '#2f9e78'],
};
const DARK: typeof LIGHT = {
  ours: ['#5ba4ff', '#3676bd', '#244e7d'],
  peers: ['#f59e3d', '#9c6f35', '#a78bfa', '#8b95a5', '#4cc79c'],
};

/** A complete SVG document. */
export function reportSvg(report: Report): string {
  const { servers, rows, machine, settings } = report;
  const groupHeight = servers.length * BAR_STEP + GROUP_GAP;
  const more = (Math.ceil(servers.length / LEGEND_COLUMNS) - 1) * LEGEND_LINE;
  const header = HEADER_HEIGHT + more;
  const height = header + rows.length * groupHeight + MARGIN;
  const classes = classesOf(report);
  const legend = servers.map(({ title }, index) => {
    const x = MARGIN + (index % LEGEND_COLUMNS) * LEGEND_STEP;
    const y = 84 + Math.floor(index / LEGEND_COLUMNS) * LEGEND_LINE;
    return (
      `<rect class="${classes[index]}" x="${x}" y="${y}" width="12" height="12" rx="2"/>` +
      text(x + 18, y + 10, 'small', title)
    );
  });
  const note = `${settings.rounds} rounds of ${settings.seconds} s, ${settings.tcp ? 'TCP on loopback' : 'Unix sockets'}, medians; thin line: slowest to fastest round`;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" aria-label="NBD servers beside each other">`,
    style(),
    `<rect class="page" width="${WIDTH}" height="${height}"/>`,
    text(MARGIN, 34, 'title', 'NBD servers beside each other, on one machine in one run'),
    ...machineLines(machine).map((line, index) => text(MARGIN, 53 + index * 15, 'small', line)),
    ...legend,
    text(MARGIN, 112 + more, 'tiny', note),
    text(WIDTH - MARGIN, 94, 'small end', 'store / best peer'),
    ...rows.map((row, index) => group(report, row, header + index * groupHeight)),
    '</svg>',
    '',
  ].join('\n');
}

function group(report: Report, row: ReportRow, top: number): string {
  const { servers } = report;
  const classes = classesOf(report);
  const summaries = servers.map(({ name }) => row.cells[name]?.summary ?? null);
  const longest = Math.max(...summaries.map((summary) => summary?.value.max ?? 0), 1e-9);
  const scale = (value: number): number => (value / longest) * BAR_WIDTH;
  const middle = top + (servers.length * BAR_STEP) / 2 + GROUP_GAP / 2 + 2;
  const bars = summaries.map((summary, index) => {
    const y = top + GROUP_GAP / 2 + index * BAR_STEP;
    const baseline = y + BAR_HEIGHT - 2;
    if (summary === null) return text(BAR_X + 4, baseline, 'tiny', '-');
    const { median, min, max } = summary.value;
    const line = y + BAR_HEIGHT / 2;
    return (
      `<rect class="${classes[index]}" x="${BAR_X}" y="${y}" width="${px(scale(median))}" height="${BAR_HEIGHT}" rx="2"/>` +
      `<path class="spread" d="M${px(BAR_X + scale(min))} ${line}H${px(BAR_X + scale(max))}"/>` +
      text(BAR_X + scale(max) + 6, baseline, 'tiny', figure(median, row.unit))
    );
  });
  const { ratio, goal, met } = row.verdict;
  const verdict = ratio === null ? '-' : `${ratio.toFixed(2)}, goal ${goal}: ${met}`;
  return [
    `<path class="rule" d="M${MARGIN} ${top}H${WIDTH - MARGIN}"/>`,
    text(MARGIN, middle, 'label', row.title),
    ...bars,
    text(WIDTH - MARGIN, middle, `label end ${met === 'no' ? 'missed' : ''}`, verdict),
  ].join('\n');
}

/** The class of each server's bars, by which ours and peers have colors of their own. */
function classesOf({ servers }: Report): string[] {
  const counts = { ours: 0, peer: 0 };
  return servers.map(({ isOurs }) => {
    const kind = isOurs ? 'ours' : 'peer';
    return `${kind}${counts[kind]++}`;
  });
}

function style(): string {
  const colors = ({ ours, peers }: typeof LIGHT): string =>
    [
      ...ours.map((color, index) => `.ours${index}{fill:${color}}`),
      ...peers.map((color, index) => `.peer${index}{fill:${color}}`),
    ].join('');
  return `<style>
text{font-family:system-ui,-apple-system,"Segoe UI","DejaVu Sans",sans-serif;fill:#1f2328}
.title{font-size:18px;font-weight:600}.label{font-size:12px}.small{font-size:12px}.tiny{font-size:10px}
.small,.tiny{fill:#57606a}.end{text-anchor:end}.missed{fill:#b42318}
.page{fill:#ffffff}.rule{stroke:#d8dee4}.spread{stroke:#1f2328;stroke-width:1;opacity:.55}
${colors(LIGHT)}
@media (prefers-color-scheme:dark){
text{fill:#e6edf3}.small,.tiny{fill:#9aa4af}.missed{fill:#ff8a80}
.page{fill:#0d1117}.rule{stroke:#30363d}.spread{stroke:#e6edf3}
${colors(DARK)}
}
</style>`;
}

function machineLines(machine: Machine): string[] {
  const { cpu, cores, memoryGib, system, kernel, disk, node, commit, date } = machine;
  return [
    `${cpu}, ${cores} cores, ${memoryGib} GiB, ${system}, Linux ${kernel}`,
    `images on ${disk}; node ${node}, commit ${commit ?? 'unknown'}, ${date}`,
  ];
}

function text(x: number, y: number, classes: string, content: string): string {
  const escaped = content.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
  return `<text class="${classes}" x="${px(x)}" y="${px(y)}">${escaped}</text>`;
}

function figure(value: number, unit: string): string {
  return `${value >= 10_000 ? `${(value / 1000).toFixed(1)}k` : Math.round(value).toLocaleString('en')} ${unit}`;
}

function px(value: number): string {
  return `${Number(value.toFixed(1))}`;
}

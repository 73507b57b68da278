/** Traffic over the last hour: three charts, and the same as a table for whoever cannot see them. */
/** @import { TrafficHistory } from '@store/core' */
/** @import { Sample } from './chart-paths.js' */
import { byId, element } from './dom.js';
import {
  byteRate,
  milliseconds,
  rate,
  roundByteRate,
  roundMilliseconds,
  timeOfDay,
} from './format.js';
import { LineChart } from './line-chart.js';

const SPAN_SECONDS = 3600;
/** What one row of the table covers. */
const ROW_SECONDS = 300;

/** @type {LineChart[]} */
let charts = [];
/** @type {TrafficHistory} */
let history = { stepSeconds: 10, samples: [] };

export function startHistory() {
  const parent = byId('charts');
  charts = [
    new LineChart(parent, {
      title: 'Operations',
      series: [
        { label: 'Reads', value: (sample) => sample.readsPerSecond },
        { label: 'Writes', value: (sample) => sample.writesPerSecond },
      ],
      format: rate,
      formatAxis: rate,
      isBinary: false,
    }),
    new LineChart(parent, {
      title: 'Throughput',
      series: [
        { label: 'Reads', value: (sample) => sample.readBytesPerSecond },
        { label: 'Writes', value: (sample) => sample.writeBytesPerSecond },
      ],
      format: byteRate,
      formatAxis: roundByteRate,
      isBinary: true,
    }),
    new LineChart(parent, {
      title: 'Mean latency',
      series: [
        { label: 'Reads', value: ({ readMs }) => (readMs > 0 ? readMs : null) },
        { label: 'Writes', value: ({ writeMs }) => (writeMs > 0 ? writeMs : null) },
      ],
      format: milliseconds,
      formatAxis: roundMilliseconds,
      isBinary: false,
    }),
  ];
  byId('history-numbers').addEventListener('toggle', showTable);
}

/** @param {TrafficHistory} whole */
export function showHistory(whole) {
  history = whole;
  for (const chart of charts) chart.show(history);
  showTable();
}

/** Those that are known already are left out. @param {TrafficHistory} fresh */
export function addSamples({ stepSeconds, samples }) {
  const known = history.samples.at(-1)?.time ?? 0;
  const all = [...history.samples, ...samples.filter(({ time }) => time > known)];
  const end = all.at(-1)?.time ?? 0;
  showHistory({ stepSeconds, samples: all.filter(({ time }) => time > end - SPAN_SECONDS) });
}

function showTable() {
  if (!byId('history-numbers').hasAttribute('open')) return;
  const head = [
    'Until',
    'Reads',
    'Writes',
    'Bytes read',
    'Bytes written',
    'Read latency',
    'Write latency',
  ];
  const rows = [...Map.groupBy(history.samples, ({ time }) => Math.ceil(time / ROW_SECONDS))];
  byId('history-table').replaceChildren(
    element(
      'div',
      { class: 'scroll', tabindex: 0, role: 'group', 'aria-label': 'Traffic of the last hour' },
      element(
        'table',
        { class: 'plain-table' },
        element(
          'caption',
          { class: 'visually-hidden' },
          'Traffic of the last hour, means of five minutes',
        ),
        element(
          'thead',
          {},
          element('tr', {}, ...head.map((title, index) => cell('th', title, index > 0, 'col'))),
        ),
        element('tbody', {}, ...rows.reverse().map(([row, samples]) => tableRow(row, samples))),
      ),
    ),
  );
}

/**
 * @param {number} row
 * @param {readonly Sample[]} samples
 */
function tableRow(row, samples) {
  const mean = (/** @type {(sample: Sample) => number} */ value) =>
    samples.reduce((sum, sample) => sum + value(sample), 0) / samples.length;
  return element(
    'tr',
    {},
    cell('th', timeOfDay(row * ROW_SECONDS), false, 'row'),
    cell('td', rate(mean((sample) => sample.readsPerSecond))),
    cell('td', rate(mean((sample) => sample.writesPerSecond))),
    cell('td', byteRate(mean((sample) => sample.readBytesPerSecond))),
    cell('td', byteRate(mean((sample) => sample.writeBytesPerSecond))),
    cell('td', milliseconds(meanLatency(samples, 'readMs', 'readsPerSecond'))),
    cell('td', milliseconds(meanLatency(samples, 'writeMs', 'writesPerSecond'))),
  );
}

/**
 * Over all operations: a busy moment counts for more than a quiet one.
 * @param {readonly Sample[]} samples
 * @param {'readMs' | 'writeMs'} latency
 * @param {'readsPerSecond' | 'writesPerSecond'} weight
 */
function meanLatency(samples, latency, weight) {
  const total = samples.reduce((sum, sample) => sum + sample[weight], 0);
  if (total === 0) return 0;
  return samples.reduce((sum, sample) => sum + sample[latency] * sample[weight], 0) / total;
}

/**
 * @param {'th' | 'td'} tag
 * @param {string} text
 * @param {boolean} [isNumber]
 * @param {string} [scope]
 */
function cell(tag, text, isNumber = true, scope = '') {
  const attributes = { class: isNumber ? 'number' : '', scope: scope === '' ? false : scope };
  return element(tag, attributes, text);
}

/**
 * A chart of two lines over the last hour. It is drawn in the pixels it has, so that its text is as large on a phone as
 * on a wall. The values at the pointer, or at the place chosen with the arrow keys, stand in the legend.
 */
/** @import { TrafficHistory } from '@store/core' */
import { areaPath, linePath, pointRuns } from './chart-paths.js';
import { axisValues } from './chart-scale.js';
import { element, setText, svg } from './dom.js';
import { timeOfDay, UNKNOWN } from './format.js';

const SPAN_SECONDS = 3600;
const HEIGHT = 176;
const EDGE = { top: 10, right: 6, bottom: 22, left: 64 };

/** @typedef {import('./chart-paths.js').Sample} Sample */

/**
 * @typedef {object} Series
 * @property {string} label
 * @property {(sample: Sample) => number | null} value - Null: there is none
 */

/**
 * @typedef {object} ChartOptions
 * @property {string} title
 * @property {readonly [Series, Series]} series
 * @property {(value: number) => string} format
 * @property {(value: number) => string} formatAxis
 * @property {boolean} isBinary
 */

export class LineChart {
  /** @type {ChartOptions} */
  #options;
  #legendValues = [element('b'), element('b')];
  #legendTime = element('span', { class: 'chart-time' });
  #plot = element('div', { class: 'chart-plot' });
  /** @type {TrafficHistory} */
  #history = { stepSeconds: 10, samples: [] };
  /** Index of the sample that is looked at; null: the newest. @type {number | null} */
  #chosen = null;
  #cursor = svg('g', { class: 'chart-cursor' });
  /** @type {import('./chart-paths.js').Scale | null} */
  #scale = null;
  #width = 0;

  /**
   * @param {HTMLElement} parent
   * @param {ChartOptions} options
   */
  constructor(parent, options) {
    this.#options = options;
    const legend = element('p', { class: 'chart-legend' });
    for (const [index, { label }] of options.series.entries()) {
      const value = this.#legendValues[index] ?? '';
      legend.append(element('span', { class: `chart-key chart-key-${index}` }, `${label} `, value));
    }
    const title = element('h3', {}, options.title);
    const head = element('div', { class: 'chart-head' }, title, this.#legendTime);
    parent.append(element('div', { class: 'chart' }, head, legend, this.#plot));
    new ResizeObserver(() => this.#resize()).observe(this.#plot);
    this.#plot.addEventListener('pointermove', (event) => this.#pointAt(event));
    this.#plot.addEventListener('pointerleave', () => this.#choose(null));
    this.#plot.addEventListener('keydown', (event) => this.#key(event));
    this.#plot.addEventListener('focusout', () => this.#choose(null));
  }

  /** @param {TrafficHistory} history */
  show(history) {
    this.#history = history;
    this.#draw();
  }

  #resize() {
    if (this.#plot.clientWidth === this.#width) return;
    this.#draw();
  }

  #draw() {
    const { samples } = this.#history;
    const { series, isBinary } = this.#options;
    const width = this.#plot.clientWidth;
    this.#width = width;
    if (width <= EDGE.left + EDGE.right) return; // not shown
    const end = samples.at(-1)?.time ?? 0;
    const start = end - SPAN_SECONDS;
    const values = samples.flatMap((sample) => series.map(({ value }) => value(sample) ?? 0));
    const axis = axisValues(Math.max(0, ...values), isBinary);
    const top = axis.at(-1) ?? 1;
    const plotWidth = width - EDGE.left - EDGE.right;
    const plotHeight = HEIGHT - EDGE.top - EDGE.bottom;
    const scale = {
      x: (/** @type {number} */ time) => EDGE.left + ((time - start) / SPAN_SECONDS) * plotWidth,
      y: (/** @type {number} */ value) => EDGE.top + (1 - value / top) * plotHeight,
    };
    this.#scale = scale;
    const drawing = this.#canvas(width);
    drawing.append(...this.#axes(axis, start, end, width));
    if (samples.length > 0) drawing.append(...this.#lines(), this.#cursor);
    else drawing.append(emptyNote(width));
    const hadFocus = this.#plot.contains(document.activeElement);
    this.#plot.replaceChildren(drawing);
    if (hadFocus) drawing.focus();
    this.#mark();
  }

  /** @param {number} width */
  #canvas(width) {
    const { title, series, format } = this.#options;
    const ranges = series.map(({ label, value }) => {
      const known = this.#history.samples.map(value).filter((one) => one !== null);
      if (known.length === 0) return `${label}: none.`;
      return `${label}: ${format(Math.min(...known))} to ${format(Math.max(...known))}.`;
    });
    return svg(
      'svg',
      { width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, role: 'img', tabindex: 0 },
      svg('title', {}, `${title}, last hour`),
      svg('desc', {}, `${ranges.join(' ')} The numbers are in the table below the charts.`),
    );
  }

  /**
   * @param {readonly number[]} axis
   * @param {number} start
   * @param {number} end
   * @param {number} width
   */
  *#axes(axis, start, end, width) {
    const scale = this.#scale;
    if (scale === null) return;
    for (const value of axis) {
      const y = Math.round(scale.y(value)) + 0.5;
      yield svg('line', {
        class: 'chart-grid',
        x1: EDGE.left,
        x2: width - EDGE.right,
        y1: y,
        y2: y,
      });
      yield svg(
        'text',
        { class: 'chart-label-y', x: EDGE.left - 8, y: y + 3.5 },
        this.#options.formatAxis(value),
      );
    }
    if (end === 0) return;
    const every = width < 330 ? 1200 : 900;
    for (let time = Math.ceil(start / every) * every; time <= end; time += every) {
      const x = scale.x(time);
      const anchor = x > width - 20 ? 'end' : 'middle';
      yield svg(
        'text',
        { class: 'chart-label-x', x, y: HEIGHT - 5, 'text-anchor': anchor },
        timeOfDay(time),
      );
    }
  }

  *#lines() {
    const scale = this.#scale;
    if (scale === null) return;
    for (const [index, { value }] of this.#options.series.entries()) {
      const runs = pointRuns(this.#history, value, scale);
      // The first one also by its area: the two are not told apart by colour alone.
      if (index === 0)
        yield svg('path', {
          class: 'chart-area',
          d: runs.map((run) => areaPath(run, HEIGHT - EDGE.bottom)).join(''),
        });
      yield svg('path', {
        class: `chart-line chart-line-${index}`,
        d: runs.map(linePath).join(''),
      });
    }
  }

  /** @param {PointerEvent} event */
  #pointAt(event) {
    const { samples } = this.#history;
    if (this.#scale === null || samples.length === 0) return;
    const x = event.clientX - this.#plot.getBoundingClientRect().left;
    let nearest = 0;
    for (const [index, { time }] of samples.entries())
      if (
        Math.abs(this.#scale.x(time) - x) < Math.abs(this.#scale.x(samples[nearest]?.time ?? 0) - x)
      )
        nearest = index;
    this.#choose(nearest);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const last = this.#history.samples.length - 1;
    const now = this.#chosen ?? last;
    const jump = event.shiftKey ? 30 : 6;
    const target = { ArrowLeft: now - jump, ArrowRight: now + jump, Home: 0, End: last }[event.key];
    if (target === undefined || last < 0) return;
    event.preventDefault();
    this.#choose(Math.max(0, Math.min(last, target)));
  }

  /** @param {number | null} index */
  #choose(index) {
    this.#chosen = index;
    this.#mark();
  }

  /** Shows what is looked at. */
  #mark() {
    const { samples } = this.#history;
    const { series, format } = this.#options;
    const sample = samples[this.#chosen ?? samples.length - 1];
    for (const [index, { value }] of series.entries()) {
      const now = sample === undefined ? null : value(sample);
      const output = this.#legendValues[index];
      if (output !== undefined) setText(output, now === null ? UNKNOWN : format(now));
    }
    const isOld = this.#chosen !== null && sample !== undefined;
    setText(this.#legendTime, isOld ? `at ${timeOfDay(sample.time)}` : 'now');
    this.#cursor.replaceChildren();
    if (!isOld || this.#scale === null) return;
    const x = this.#scale.x(sample.time);
    this.#cursor.append(svg('line', { x1: x, x2: x, y1: EDGE.top, y2: HEIGHT - EDGE.bottom }));
    for (const [index, { value }] of series.entries()) {
      const now = value(sample);
      if (now === null) continue;
      const dot = { class: `chart-dot-${index}`, cx: x, cy: this.#scale.y(now), r: 3.5 };
      this.#cursor.append(svg('circle', dot));
    }
  }
}

/** @param {number} width */
function emptyNote(width) {
  const at = { class: 'chart-empty', x: (width + EDGE.left) / 2, y: HEIGHT / 2 };
  return svg('text', at, 'Nothing was measured yet');
}

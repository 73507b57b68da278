/**
 * A table that is kept up to date: rows are made anew only if what they show has changed, so that what is selected stays
 * selected. Columns are sorted by buttons. On a phone each row becomes a card (style.css), which would take the roles of
 * a table away from it; that is why they are written out.
 */
import { element, setText } from './dom.js';
import { icon } from './icons.js';
import { counted } from './format.js';

/**
 * @template Row
 * @typedef {object} Column
 * @property {string} title
 * @property {boolean} [isNumber] - Right-aligned, and the largest first
 * @property {boolean} [isInGroupHead] - Left away where the group says it
 * @property {(row: Row) => string | number} sortBy
 * @property {(row: Row) => Node | string} cell
 */

/**
 * @template Row
 * @typedef {object} TableOptions
 * @property {string} caption
 * @property {readonly Column<Row>[]} columns - The first one names the row
 * @property {(row: Row) => string} key
 * @property {string} empty - What is said if there is no row
 * @property {readonly [one: string, many: string]} noun
 * @property {number} limit - Rows that are shown before somebody asks for all
 * @property {(row: Row) => string} [group] - Rows of the same group stand together
 * @property {(rows: readonly Row[]) => Node} [groupHead]
 * @property {() => void} [sorted] - Somebody chose a column
 */

const collator = new Intl.Collator('en', { numeric: true });

/** @template Row */
export class DataTable {
  /** @type {TableOptions<Row>} */
  #options;
  #body = element('tbody', { role: 'rowgroup' });
  #table = element('table', { role: 'table' });
  #empty = element('p', { class: 'empty' });
  #more = element('button', { type: 'button', class: 'button more', hidden: true });
  /** @type {HTMLTableCellElement[]} */
  #heads = [];
  /** @type {Map<string, { signature: string, row: HTMLTableRowElement }>} */
  #made = new Map();
  /** @type {readonly Row[]} */
  #rows = [];
  /** @type {{ column: number, isDown: boolean } | null} */
  #sort = null;
  #isWhole = false;
  #isGrouped = false;

  /**
   * @param {HTMLElement} parent
   * @param {TableOptions<Row>} options
   */
  constructor(parent, options) {
    this.#options = options;
    const head = element('tr', { role: 'row' });
    for (const [index, column] of options.columns.entries()) {
      const button = element('button', { type: 'button' }, column.title, icon('unsorted'));
      button.addEventListener('click', () => this.#sortBy(index));
      const className = classOf(column);
      const cell = element('th', { scope: 'col', role: 'columnheader', class: className }, button);
      this.#heads.push(cell);
      head.append(cell);
    }
    this.#table.append(
      element('caption', { class: 'visually-hidden' }, options.caption),
      element('thead', { role: 'rowgroup' }, head),
      this.#body,
    );
    this.#more.addEventListener('click', () => {
      this.#isWhole = true;
      this.#draw();
    });
    parent.append(this.#table, this.#empty, this.#more);
  }

  /** @param {readonly Row[]} rows */
  show(rows) {
    this.#rows = rows;
    this.#draw();
  }

  /** Grouped rows are in the order they came in, until a column is chosen. @param {boolean} isGrouped */
  group(isGrouped) {
    this.#isGrouped = isGrouped;
    this.#table.classList.toggle('is-grouped', isGrouped);
    if (isGrouped) this.#setSort(null);
    this.#draw();
  }

  /** @param {number} column */
  #sortBy(column) {
    const first = this.#options.columns[column]?.isNumber === true;
    const isDown = this.#sort?.column === column ? !this.#sort.isDown : first;
    this.#setSort({ column, isDown });
    this.#options.sorted?.();
    this.#draw();
  }

  /** @param {{ column: number, isDown: boolean } | null} sort */
  #setSort(sort) {
    this.#sort = sort;
    for (const [index, head] of this.#heads.entries()) {
      const isSorted = sort?.column === index;
      const order = sort?.isDown === true ? 'descending' : 'ascending';
      if (isSorted) head.setAttribute('aria-sort', order);
      else head.removeAttribute('aria-sort');
      head.querySelector('.icon')?.replaceWith(icon(isSorted ? order : 'unsorted'));
    }
  }

  #draw() {
    const { empty, limit, noun } = this.#options;
    const sorted = this.#sorted();
    const shown = this.#isWhole ? sorted : sorted.slice(0, limit);
    const lines = this.#isGrouped ? this.#groupedLines(shown) : shown.map((row) => this.#line(row));
    const isSame =
      lines.length === this.#body.children.length &&
      lines.every((line, index) => this.#body.children[index] === line);
    if (!isSame) this.#body.replaceChildren(...lines);
    this.#table.hidden = sorted.length === 0;
    this.#empty.hidden = sorted.length > 0;
    setText(this.#empty, empty);
    this.#more.hidden = shown.length === sorted.length;
    setText(this.#more, `Show all ${counted(sorted.length, ...noun)}`);
    this.#forget(new Set(this.#rows.map((row) => this.#options.key(row))));
  }

  #sorted() {
    if (this.#sort === null) return this.#rows;
    const { column, isDown } = this.#sort;
    const sortBy = this.#options.columns[column]?.sortBy;
    if (sortBy === undefined) return this.#rows;
    const sorted = this.#rows.toSorted((a, b) => compare(sortBy(a), sortBy(b)));
    return isDown ? sorted.reverse() : sorted;
  }

  /** @param {readonly Row[]} rows */
  #groupedLines(rows) {
    const { group, groupHead, columns } = this.#options;
    if (group === undefined || groupHead === undefined) return rows.map((row) => this.#line(row));
    /** @type {HTMLTableRowElement[]} */
    const lines = [];
    for (const [name, members] of Map.groupBy(rows, group)) {
      // All that belong to it, not only those that are shown
      const all = this.#rows.filter((row) => group(row) === name);
      const make = () => {
        const attributes = { scope: 'rowgroup', role: 'rowheader', colspan: columns.length };
        const head = element('th', attributes, groupHead(all));
        return element('tr', { role: 'row', class: 'group' }, head);
      };
      lines.push(this.#kept(`group ${name}`, JSON.stringify(all), make));
      for (const row of members) lines.push(this.#line(row));
    }
    return lines;
  }

  /** @param {Row} row */
  #line(row) {
    return this.#kept(`row ${this.#options.key(row)}`, JSON.stringify(row), () => {
      const line = element('tr', { role: 'row' });
      for (const [index, column] of this.#options.columns.entries()) {
        const { title, cell } = column;
        const attributes = { class: classOf(column), 'data-label': title };
        line.append(
          index === 0
            ? element('th', { ...attributes, scope: 'row', role: 'rowheader' }, cell(row))
            : element('td', { ...attributes, role: 'cell' }, cell(row)),
        );
      }
      return line;
    });
  }

  /**
   * @param {string} key
   * @param {string} signature - Of all that it shows
   * @param {() => HTMLTableRowElement} make
   */
  #kept(key, signature, make) {
    const known = this.#made.get(key);
    if (known?.signature === signature) return known.row;
    const row = make();
    this.#made.set(key, { signature, row });
    return row;
  }

  /** Lets go of rows that are no more. @param {ReadonlySet<string>} keys */
  #forget(keys) {
    for (const made of this.#made.keys())
      if (made.startsWith('row ') && !keys.has(made.slice(4))) this.#made.delete(made);
  }
}

/** @param {{ isNumber?: boolean, isInGroupHead?: boolean }} column */
function classOf({ isNumber, isInGroupHead }) {
  return `${isNumber === true ? 'number' : ''} ${isInGroupHead === true ? 'in-group-head' : ''}`.trim();
}

/**
 * @param {string | number} a
 * @param {string | number} b
 */
function compare(a, b) {
  if (typeof a === 'number' && typeof b === 'number') return a - b;
  return collator.compare(String(a), String(b));
}

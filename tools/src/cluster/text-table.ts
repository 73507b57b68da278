/** Tables for people. */
import { displayWidth, padded, printable } from './printable.js';

export interface Column {
  readonly title: string;
  /** Numbers stand at the right. */
  readonly isNumber: boolean;
}

export function words(title: string): Column {
  return { title, isNumber: false };
}

export function numbers(title: string): Column {
  return { title, isNumber: true };
}

/**
 * A line for each row, under a heading; the columns line up.
 * @param rows - A cell for each column; what is in it may be anything.
 */
export function textTable(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
): string {
  const all = [columns.map(({ title }) => title), ...rows.map((row) => row.map(printable))];
  const widths = columns.map((_, at) =>
    all.reduce((widest, row) => Math.max(widest, displayWidth(row[at] ?? '')), 0),
  );
  return all
    .map((row) =>
      columns
        .map(({ isNumber }, at) =>
          padded(row[at] ?? '', widths[at] ?? 0, isNumber ? 'start' : 'end'),
        )
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** The table of gateway-nbd/README.md: each id of the checklist, what it means, and the tests that prove it. */
import type { ChecklistItem } from './checklist-ids.js';

export const TABLE_BEGIN = '<!-- checklist: made by `make checklist-table` -->';
export const TABLE_END = '<!-- checklist: end -->';

/** A test file: its path from the repository, and its text. */
export interface TestSource {
  readonly path: string;
  readonly text: string;
}

/** The files that prove each id, sorted. */
export type Proofs = ReadonlyMap<string, readonly string[]>;

const TITLE = /\btest\(\s*(['"`])((?:\\.|(?!\1)[^\\])*)\1/g;
/** `H2, F28: what holds` */
const IDS = /^([A-Z][A-Z_0-9-]*(?:, [A-Z][A-Z_0-9-]*)*): /;

/** The titles of the tests in a source file, as written. */
export function titlesOf(text: string): string[] {
  return [...text.matchAll(TITLE)].map(([, , title = '']) => title);
}

/** The ids a title begins with. */
export function idsOf(title: string): string[] {
  return IDS.exec(title)?.[1]?.split(', ') ?? [];
}

/** Collects which files prove which ids; also ids that are on no list. */
export function collectProofs(sources: readonly TestSource[]): Proofs {
  const proofs = new Map<string, Set<string>>();
  for (const { path, text } of sources)
    for (const id of titlesOf(text).flatMap(idsOf))
      proofs.set(id, (proofs.get(id) ?? new Set()).add(path));
  return new Map([...proofs].map(([id, paths]) => [id, [...paths].sort()]));
}

/** What is wrong between the list and the tests, one sentence each. */
export function checklistProblems(
  items: readonly ChecklistItem[],
  proofs: Proofs,
  paths: ReadonlySet<string>,
): string[] {
  const known = new Set(items.map(({ id }) => id));
  const twice = items.filter(({ id }, index) => items.findIndex((one) => one.id === id) !== index);
  return [
    ...twice.map(({ id }) => `${id} is on the list twice`),
    ...[...proofs.keys()]
      .filter((id) => !known.has(id))
      .map((id) => `${id} begins a test title and is not on the list`),
    ...items.flatMap(({ id, reason, file }) => {
      const isProved = proofs.has(id) || file !== undefined;
      if (file !== undefined && !paths.has(file))
        return [`${id} names ${file}, which is not there`];
      if (isProved && reason !== undefined) return [`${id} has a test and a reason to have none`];
      if (!isProved && reason === undefined) return [`${id} has neither a test nor a reason`];
      return [];
    }),
  ];
}

/** The README with its table replaced. @throws Error if the two markers are not there */
export function withTable(readme: string, items: readonly ChecklistItem[], proofs: Proofs): string {
  const begin = readme.indexOf(TABLE_BEGIN);
  const end = readme.indexOf(TABLE_END);
  if (begin < 0 || end < begin)
    throw new Error(`the README has no table between ${TABLE_BEGIN} and ${TABLE_END}`);
  const before = readme.slice(0, begin + TABLE_BEGIN.length);
  return `${before}\n\n${table(items, proofs)}\n\n${readme.slice(end)}`;
}

/** The last column is not padded, so that a change of one row is a change of one line. */
function table(items: readonly ChecklistItem[], proofs: Proofs): string {
  const idWidth = Math.max(...items.map(({ id }) => id.length));
  const whatWidth = Math.max(...items.map(({ what }) => what.length));
  const row = (id: string, what: string, tests: string): string =>
    `| ${id.padEnd(idWidth)} | ${what.padEnd(whatWidth)} | ${tests} |`;
  return [
    '<!-- prettier-ignore-start -->',
    row('id', 'what', 'tests'),
    row('-'.repeat(idWidth), '-'.repeat(whatWidth), '---'),
    ...items.map((item) => row(item.id, item.what, evidence(item, proofs))),
    '<!-- prettier-ignore-end -->',
  ].join('\n');
}

function evidence({ id, reason, file }: ChecklistItem, proofs: Proofs): string {
  if (reason !== undefined) return `none: ${reason}`;
  const paths = [...(file === undefined ? [] : [file]), ...(proofs.get(id) ?? [])];
  return paths.map((path) => `[${shortName(path)}](${fromGateway(path)})`).join(', ');
}

/** `gateway-nbd/src/checklist/tls.test.ts` -> `tls` */
function shortName(path: string): string {
  return path.replace(/^.*\//, '').replace(/\.test\.ts$/, '');
}

function fromGateway(path: string): string {
  return path.startsWith('gateway-nbd/') ? path.slice('gateway-nbd/'.length) : `../${path}`;
}

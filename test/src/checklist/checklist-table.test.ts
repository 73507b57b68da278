import t from 'tap';
import { CHECKLIST } from './checklist-ids.js';
import {
  checklistProblems,
  collectProofs,
  idsOf,
  TABLE_BEGIN,
  TABLE_END,
  titlesOf,
  withTable,
} from './checklist-table.js';
import { readmeTexts, testSources } from './readme-table.js';

t.test('every id of the NBD checklist has a test or a reason to have none', async (t) => {
  const sources = testSources();
  const paths = new Set(sources.map(({ path }) => path));
  t.same(checklistProblems(CHECKLIST, collectProofs(sources), paths), []);
});

t.test('the table in gateway-nbd/README.md is up to date', async (t) => {
  const { found, wanted } = readmeTexts();
  t.equal(found, wanted, 'run `make checklist-table`');
});

t.test(
  'titles are found however they are written, and ids only where a title begins',
  async (t) => {
    const text = [
      "t.test('H1: one', async (t) => {",
      'await t.test(\n  "H2, SET_META_CONTEXT: it\'s two",\n  async () => {',
      't.test(`CVE-2021-3716, F26: ${three}`, () => {});',
      "t.test('it\\'s four (H3)', () => {});",
      "// t.equal(contest('H9: no'))",
    ].join('\n');
    const titles = titlesOf(text);
    t.equal(titles.length, 4);
    t.same(titles.flatMap(idsOf), ['H1', 'H2', 'SET_META_CONTEXT', 'CVE-2021-3716', 'F26']);
  },
);

t.test('a missing test, an unknown id, a reason too many and a lost file are told', async (t) => {
  const items = [
    { id: 'A', what: 'proved' },
    { id: 'B', what: 'neither' },
    { id: 'C', what: 'both', reason: 'none needed' },
    { id: 'D', what: 'in a file', file: 'x.test.ts' },
    { id: 'D', what: 'again', file: 'here.test.ts' },
  ];
  const proofs = collectProofs([{ path: 'here.test.ts', text: "test('A, C, Z: so', f)" }]);
  t.same(checklistProblems(items, proofs, new Set(['here.test.ts'])), [
    'D is on the list twice',
    'Z begins a test title and is not on the list',
    'B has neither a test nor a reason',
    'C has a test and a reason to have none',
    'D names x.test.ts, which is not there',
  ]);
  const text = `# Before\n\n${TABLE_BEGIN}\n\nold\n\n${TABLE_END}\n\nAfter\n`;
  const made = withTable(text, items.slice(0, 1), proofs);
  t.match(made, /^# Before[^]*\| A +\| proved +\| \[here\]\(\.\.\/here\.test\.ts\) \|[^]*After\n$/);
  t.notMatch(made, 'old');
  t.throws(() => withTable('no markers', items, proofs), /no table between/);
});

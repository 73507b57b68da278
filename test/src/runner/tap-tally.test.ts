import t from 'tap';
import { tallyTap } from './tap-tally.js';

t.test('tallyTap() counts stories, not the assertions inside them', async (t) => {
  const tally = tallyTap(
    [
      'TAP version 14',
      '# Subtest: a story',
      '    ok 1 - one',
      '    ok 2 - two',
      '    1..2',
      'ok 1 - a story # time=2ms',
      'not ok 2 - another',
      '1..2',
    ].join('\n'),
  );
  t.match(tally, { passed: 1, failed: 1, skipped: [], malformed: null });
});

t.test('tallyTap() lists every skipped test with its reason, nested ones too', async (t) => {
  const tally = tallyTap(
    [
      '    ok 1 - inner # SKIP needs root',
      '    1..1',
      'ok 1 - outer',
      'ok 2 - later # SKIP no kernel',
      '1..2',
    ].join('\n'),
  );
  t.match(tally, { passed: 1, failed: 0, malformed: null });
  t.same(tally.skipped, ['inner: needs root', 'later: no kernel']);
});

t.test('tallyTap() takes a skipped file for one skipped test', async (t) => {
  const tally = tallyTap('TAP version 14\n1..0 # SKIP needs root\n');
  t.match(tally, { passed: 0, failed: 0, skipped: ['needs root'], malformed: null });
});

t.test('tallyTap() does not read test points out of a diagnostic', async (t) => {
  const tally = tallyTap('ok 1 - a\n  ---\n  diff: |\n    not ok 7\nok 9 - quoted\n  ...\n1..1\n');
  t.match(tally, { passed: 1, failed: 0, malformed: null });
});

t.test(
  'tallyTap() refuses a report that stops early, bails out or contradicts its plan',
  async (t) => {
    t.equal(tallyTap('ok 1 - a\n').malformed, 'ended without a plan');
    t.equal(tallyTap('ok 1 - a\n1..2\n').malformed, 'planned 2 tests and reported 1');
    t.equal(tallyTap('ok 1 - a\nBail out! no disk\n1..1\n').malformed, 'Bail out! no disk');
    t.equal(tallyTap('').malformed, 'ended without a plan');
  },
);

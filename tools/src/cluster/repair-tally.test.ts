import type { DaemonScrub, ScrubReport } from '@store/core';
import t from 'tap';
import { RepairTally } from './repair-tally.js';

const FIRST_START = '1'.repeat(32);
const SECOND_START = '2'.repeat(32);
const NOTHING = { groupsDone: 0, objectsDone: 0, errors: 0, repaired: 0, contradictions: 0 };

function scrub(fields: Partial<DaemonScrub>): DaemonScrub {
  const idle = { running: null, wanted: 0, begun: 0, found: NOTHING, findings: [] };
  return { startId: FIRST_START, ...idle, ...fields };
}

/** Of daemons 1 and so on; text: why it does not answer. */
function report(...daemons: (DaemonScrub | string)[]): ScrubReport {
  return {
    daemons: daemons.map((one, index) => {
      const who = { daemon: index + 1, address: '127.0.0.1:1' };
      return typeof one === 'string'
        ? { ...who, scrub: null, problem: one }
        : { ...who, scrub: one, problem: null };
    }),
    pools: {},
    groupsOutOfReach: 0,
  };
}

function finding(number: number): DaemonScrub['findings'][number] {
  return { number, pool: 1, group: 1, daemon: 1, object: 'o', what: 'w', isRepaired: true };
}

t.test('what was found before is not told again, and each thing once', (t) => {
  const before = { ...NOTHING, groupsDone: 5, errors: 1, repaired: 1 };
  const tally = new RepairTally(report(scrub({ found: before, findings: [finding(1)] })));
  tally.begun(report(scrub({ found: before, wanted: 2, begun: 2 })));
  t.notOk(tally.isOver);
  const found = { ...NOTHING, groupsDone: 6, errors: 2, repaired: 2 };
  tally.look(report(scrub({ found, wanted: 1, findings: [finding(1), finding(2)] })));
  t.match([tally.done, tally.groups, tally.isOver], [1, 2, false]);
  tally.look(report('It did not answer'));
  t.notOk(tally.isOver, 'it may answer later');
  const last = { ...found, groupsDone: 7, objectsDone: 9, errors: 3 };
  tally.look(report(scrub({ found: last, findings: [finding(2), finding(3)] })));
  t.ok(tally.isOver);
  t.match(tally.result(), { groups: 2, looked: 2, objects: 9, found: 2, mended: 1 });
  t.same(
    tally.result().findings.map(({ number }) => number),
    [2, 3],
  );
  t.end();
});

t.test(
  'a daemon that starts anew, or goes, is not waited for, and its groups are not done',
  (t) => {
    for (const after of [report(scrub({ startId: SECOND_START })), report()]) {
      const tally = new RepairTally(report(scrub({})));
      tally.begun(report(scrub({ wanted: 4, begun: 4 })));
      tally.look(report(scrub({ wanted: 3, found: { ...NOTHING, groupsDone: 1 } })));
      tally.look(after);
      t.ok(tally.isOver);
      t.match(tally.result(), { groups: 4, looked: 1 });
    }
    t.end();
  },
);

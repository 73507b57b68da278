import type { ClusterStatus } from '@store/core';
import t from 'tap';
import { paintFor, PLAIN } from './paint.js';
import { planText } from './print-plan.js';
import { statusText } from './print-status.js';
import { Screen } from './screen.js';

const GIB: number = 2 ** 30;
const QUIET = {
  ...{ readsPerSecond: 0, writesPerSecond: 0, readBytesPerSecond: 0, writeBytesPerSecond: 0 },
  ...{ readMs: 0, writeMs: 0 },
};

const RECOVERY = { bytesLeft: 10 * GIB, bytesPerSecond: GIB / 60, secondsLeft: 600 };
const SCRUB = { lastLightSeconds: 7500, lastDeepSeconds: null, errorsFound: 2, errorsRepaired: 1 };

const STATUS: ClusterStatus = {
  clusterId: '0'.repeat(32),
  version: 17,
  time: '2026-01-01T00:00:00.000Z',
  health: 'error',
  problems: [
    { severity: 'error', where: 'daemon 2', what: 'It is down.', advice: 'Start it again.' },
    { severity: 'warning', where: 'pool \x1b[2J', what: 'Odd.', advice: 'Rename it.' },
  ],
  masters: [
    { address: '10.0.0.1:4010', isLeader: true },
    { address: '10.0.0.2:4010', isLeader: false },
  ],
  daemons: [
    {
      ...{ id: 2, diskId: '1'.repeat(32), address: '10.0.0.7:4148', peerAddress: null },
      ...{ host: 'h', rack: 'r', state: 'down', stateSeconds: 7500, membership: 'draining' },
      ...{ weight: 100, capacityBytes: 100 * GIB, freeBytes: 25 * GIB, usedBytes: GIB, groups: 8 },
      hasReported: true,
      ...{ primaries: 8, mapVersion: 17, recentStarts: 1, traffic: QUIET },
    },
  ],
  pools: [
    {
      ...{ id: 1, name: 'vms', replicas: 3, minReplicas: 2, groups: 8, objectBytes: 4 * 2 ** 20 },
      ...{ failureDomain: 'host', durability: 'flush', usedBytes: GIB, objects: 256 },
      ...{
        groupsDown: 1,
        groupsReadOnly: 2,
        groupsDegraded: 8,
        groupsJoining: 3,
        groupsMisplaced: 4,
      },
      ...{ storedBytes: GIB / 4, copiesMissing: 12, recovery: RECOVERY, scrub: SCRUB },
    },
  ],
  images: [{ pool: 'vms', name: 'vm1', sizeBytes: GIB }],
  capacityBytes: 100 * GIB,
  freeBytes: 25 * GIB,
  usedBytes: GIB,
  traffic: { ...QUIET, readsPerSecond: 1234.5, readBytesPerSecond: 5 * 2 ** 20, readMs: 0.31 },
  recovery: RECOVERY,
  recoveryRate: 0,
  incidents: [
    {
      ...{ time: '2026-01-01T00:00:00.000Z', pool: 'vms', group: 5, daemon: 2 },
      what: 'It went on with an old copy.',
    },
  ],
};

await t.test('a status is one screen: health, figures, problems, daemons, pools', async (t) => {
  t.equal(
    statusText(STATUS, PLAIN),
    `Health: error, 2 problems

masters   10.0.0.1:4010 (leads), 10.0.0.2:4010
map       version 17
daemons   0 up, 0 in, of 1
pools     1 with 8 groups; 1 image
capacity  [#######################.......] 75 %, 25 GiB free of 100 GiB; objects take 1 GiB
traffic   reads 1235/s, 5 MiB/s, 0.3 ms; writes none
scrub     2 errors found, 1 mended (store scrub status)
recovery  [###############...............] 50 % of the copies are in sync; 10 GiB to copy, 17.07 MiB/s, 10 m to go
moving    [###############...............] 50 % of the groups are in place

error    daemon 2: It is down.
         Start it again.
warning  pool \\u001b[2J: Odd.
         Rename it.

incident  2026-01-01T00:00:00.000Z group 5 of pool vms: It went on with an old copy.

ID  STATE         MEMBER    ADDRESS        CAPACITY  FULL  GROUPS
 2  down 2 h 5 m  draining  10.0.0.7:4148   100 GiB  75 %       8

NAME  REPLICAS  GROUPS  OBJECTS   USED  DOMAIN  DURABILITY  STATE
vms        3/2       8      256  1 GiB  host    flush       1 group out of reach, 2 groups not writable, 5 groups with too few copies, 3 being copied, 4 to move`,
  );
});

await t.test('colours are for terminals whose owner wants them', async (t) => {
  const terminal = { isTTY: true };
  t.match(
    statusText(STATUS, paintFor(terminal, {})),
    /^Health: \x1b\[31merror\x1b\[0m, 2 problems\n/,
  );
  for (const [place, env] of [
    [{}, {}],
    [terminal, { NO_COLOR: '1' }],
    [terminal, { TERM: 'dumb' }],
  ] as const)
    t.notMatch(statusText(STATUS, paintFor(place, env)), /\x1b/);
});

await t.test('a plan shows the daemons that change', async (t) => {
  const counts = { copiesBefore: 8, copiesAfter: 4, copiesIn: 0, copiesOut: 4 };
  const same = { daemon: 3, copiesBefore: 8, copiesAfter: 8, copiesIn: 0, copiesOut: 0 };
  const plan = {
    ...{ change: "Change pool 'a\n'", copiesMoved: 1, bytesMoved: GIB, groupsChanged: 4 },
    ...{ daemons: [{ daemon: 2, ...counts }, same], warnings: ['Take care.'] },
  };
  t.equal(
    planText(plan),
    `Change pool 'a\\u000a'
  1 copy of groups would move (1 GiB); 4 groups would change
  DAEMON  COPIES  AFTER  COMING  GOING
       2       8      4       0      4
  Warning: Take care.`,
  );
});

await t.test('what is shown again takes the place of what was, and never scrolls', async (t) => {
  const written: string[] = [];
  const write = (text: string): number => written.push(text);
  const screen = new Screen({ isTTY: true, rows: 4, write });
  screen.show('a\nb\nc\nd\ne');
  screen.show('a');
  t.same(written, ['\x1b[2J\x1b[Ha\x1b[K\nb\x1b[K\n...\x1b[K\n\x1b[J', '\x1b[Ha\x1b[K\n\x1b[J']);
  const piped = new Screen({ write });
  written.length = 0;
  piped.show('a');
  piped.show('b');
  t.same(written, ['a\n', '\nb\n']);
});

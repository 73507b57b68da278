import t from 'tap';
import { StoreError } from '../util/errors.js';
import { BODY_BYTES_MAX } from '../wire/wire-limits.js';
import { encodeJson, type JsonFields } from '../wire/json-body.js';
import {
  decodeReport,
  encodeReport,
  REPORTED_GROUPS_MAX,
  type DaemonReport,
} from './daemon-messages.js';

const MAX = Number.MAX_SAFE_INTEGER;
const COUNTS = { reads: 1, writes: 2, readBytes: 3, writeBytes: 4, readMs: 5, writeMs: 6 };
const REPORT: DaemonReport = {
  ...COUNTS,
  capacityBytes: 7,
  freeBytes: 8,
  mapVersion: 9,
  pools: [{ id: 1, objects: 10, usedBytes: 11, ledObjects: 4, ledBytes: 5 }],
  images: [{ pool: 1, name: 'vm', sizeBytes: 12 }],
  emptied: [3],
  groups: [
    {
      pool: 1,
      joining: 2,
      objectsLeft: 3,
      bytesLeft: 4,
      bytesPerSecond: 5,
      lastLightSeconds: 6,
      lastDeepSeconds: null,
      errorsFound: 7,
      errorsRepaired: 8,
    },
  ],
  isFull: true,
};

t.test('a report is read as it was said', (t) => {
  t.same(decodeReport(encodeReport(REPORT)), REPORT);
  t.end();
});

t.test('a report of a daemon that keeps no copies says nothing of joins', (t) => {
  const { groups, isFull, ...rest } = encodeReport(REPORT);
  t.ok(groups !== undefined && isFull !== undefined);
  const old = { ...rest, pools: [{ id: 1, objects: 10, usedBytes: 11 }] };
  t.match(decodeReport(old), {
    groups: [],
    isFull: false,
    pools: [{ ledObjects: 10, ledBytes: 11 }],
  });
  t.end();
});

t.test('what is out of its limits is refused', (t) => {
  const [group = {}] = REPORT.groups;
  const bad: JsonFields[] = [
    { groups: {} },
    { groups: Array.from({ length: REPORTED_GROUPS_MAX + 1 }, () => group) },
    { groups: [{ ...group, pool: -1 }] },
    { groups: [{ ...group, bytesLeft: 2 ** 53 }] },
    { groups: [{ ...group, lastLightSeconds: '1' }] },
    { groups: [null] },
    { isFull: 1 },
  ];
  for (const fields of bad)
    t.throws(() => decodeReport({ ...encodeReport(REPORT), ...fields }), StoreError);
  const largest = REPORT.groups.flatMap((one) =>
    Array.from({ length: REPORTED_GROUPS_MAX }, () => ({ ...one, bytesLeft: MAX })),
  );
  t.ok(encodeJson({ groups: largest }).length < BODY_BYTES_MAX / 6, 'it leaves room for others');
  t.end();
});

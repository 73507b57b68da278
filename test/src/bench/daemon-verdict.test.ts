// What counts as met by daemons behind the gateway, and that none of them, and no cluster, is a rival of our server.
import t from 'tap';
import { judgeDaemons } from './daemon-verdict.js';
import type { Sample } from './measure.js';
import { ROWS } from './rows.js';
import { SERVER_KINDS } from './server-kinds.js';
import { judge, type RowResult } from './verdict.js';

function sample(round: number, value: number): Sample {
  return {
    ...{ round, value, requests: 1, bytes: 4096, seconds: 1, latencyUs: null, clientCores: 0.5 },
    ...{ clientSaturated: false, serverCpuSeconds: { user: 1, system: 1 }, stallMs: null },
    ...{ cpuPer100kRequests: 1, cpuPerGib: 1, peakBytes: 1 },
  };
}

/** A row with some of the servers and what they reached, round by round. */
function result(name: string, values: Readonly<Record<string, readonly number[]>>): RowResult {
  const row = ROWS.find((one) => one.name === name);
  if (row === undefined) throw new Error(`There is no row ${name}`);
  const cells = SERVER_KINDS.filter((kind) => kind.name in values).map((kind) => {
    const samples = (values[kind.name] ?? []).map((value, index) => sample(index + 1, value));
    return { kind, samples, reason: null };
  });
  return { row, cells };
}

function metIn(name: string, values: Readonly<Record<string, readonly number[]>>): string[] {
  return judgeDaemons(result(name, values)).map(({ met }) => met);
}

t.test('4 KiB reads must reach 60 % of our server with its own store', async (t) => {
  const row = 'randread-4k-qd32';
  t.strictSame(metIn(row, { store: [100], 'store-daemon': [60] }), ['yes']);
  t.strictSame(metIn(row, { store: [100], 'store-daemon': [59] }), ['no']);
  const both = { store: [100], 'store-daemon': [60], 'store-daemon-unix': [59] };
  t.strictSame(metIn(row, both), ['yes', 'no'], 'each way by itself');
  t.strictSame(metIn(row, { 'nbdkit-file': [1], 'store-daemon': [60] }), ['-'], 'nothing beside');
});

for (const row of ['read-1m-qd4', 'write-1m-qd4'])
  t.test(`${row} must reach half of nbdkit file, or 1 GB/s`, async (t) => {
    t.strictSame(metIn(row, { 'store-daemon': [500], 'nbdkit-file': [1000] }), ['yes']);
    t.strictSame(metIn(row, { 'store-daemon': [499], 'nbdkit-file': [1000] }), ['no']);
    t.strictSame(metIn(row, { 'store-daemon': [1000], 'nbdkit-file': [9000] }), ['yes']);
    t.strictSame(metIn(row, { store: [1], 'store-daemon': [999] }), ['-'], 'nothing beside');
  });

t.test(
  "three daemons must be five times as fast as Ceph, which is nobody else's rival",
  async (t) => {
    const row = 'read-1m-qd4';
    t.strictSame(metIn(row, { 'store-cluster': [500], 'ceph-rbd': [100] }), ['yes']);
    t.strictSame(metIn(row, { 'store-cluster': [499], 'ceph-rbd': [100] }), ['no']);
    t.strictSame(metIn(row, { store: [1], 'store-cluster': [2000], 'nbdkit-file': [1] }), ['-']);
    const [daemon] = judgeDaemons(result(row, { 'store-daemon': [1], 'ceph-rbd': [1] }));
    t.equal(daemon?.ceph, null, 'one daemon keeps one copy');
    t.equal(judge(result(row, { store: [1], 'ceph-rbd': [1] })).best, null);
  },
);

t.test('ratios are those of the medians, and of the rounds that have both', async (t) => {
  const values = { store: [100, 200, 400], 'store-daemon': [50, 160] };
  const [verdict] = judgeDaemons(result('randread-4k-qd32', values));
  t.equal(verdict?.ours?.ratio, 105 / 200);
  t.strictSame(verdict?.ours?.pairedRatio, { median: 0.65, min: 0.5, max: 0.8 });
  t.equal(verdict?.nbdkitFile, null);
});

t.test('a row without a goal, and a daemon that was not measured, are no failures', async (t) => {
  t.strictSame(metIn('randread-4k-qd1', { store: [100], 'store-daemon': [1] }), ['-']);
  t.strictSame(metIn('randread-4k-qd32', { store: [100], 'store-daemon': [] }), []);
});

t.test('one daemon is no rival of our server', async (t) => {
  const values = { store: [100], 'store-daemon': [500], 'nbdkit-file': [50] };
  t.match(judge(result('randread-4k-qd32', values)), { best: 'nbdkit-file', ratio: 2 });
});

import { randomInt } from 'node:crypto';
import type { SimDisk } from '@store/core/sim';
import t from 'tap';
import { crashRun, type CrashRunCounts } from './crash/crash-run.js';

const SEEDS = Number(process.env['STORE_TEST_SEEDS'] ?? 150);
/** So many see every kind of event. */
const ENOUGH_SEEDS = 30;
const base = Number(process.env['STORE_TEST_SEED'] ?? randomInt(2 ** 30));

t.setTimeout(600_000);
void t.test('nothing flushed is lost, whenever the process or the power dies', async (t) => {
  t.setTimeout(600_000);
  t.comment(
    `replay: STORE_TEST_SEED=${base} STORE_TEST_SEEDS=1 node daemon/dist/store/power-loss.test.js`,
  );
  const sum: Partial<CrashRunCounts> = {};
  for (let seed = base; seed < base + SEEDS; seed += 1) {
    const prepare = seed % 4 === 0 ? failingDisk : () => undefined;
    const counts = await crashRun({ seed, starts: 8, stepsMax: 400, prepare });
    for (const [name, count] of Object.entries(counts) as [keyof CrashRunCounts, number][])
      sum[name] = (sum[name] ?? 0) + count;
  }
  for (const [name, count] of Object.entries(sum))
    t.ok(count > 0 || SEEDS < ENOUGH_SEEDS, `${name}: ${count}`);
});

function failingDisk(disk: SimDisk): void {
  disk.dataFaults.syncError = 0.02;
  disk.dataFaults.writeError = 0.005;
  disk.metaFaults.commitError = 0.02;
}

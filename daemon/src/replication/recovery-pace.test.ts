/** How fast copies are made equal, by what clients feel and by what an operator says. */
import t from 'tap';
import { RecoveryPace } from './recovery-pace.js';

const MIB = 1024 * 1024;
const SECOND = 1000;

/** Lets a recovery push pieces of 1 MiB as fast as it may. @returns bytes that were pushed */
function push(pace: RecoveryPace, from: number, seconds: number, latencyMs: number): number {
  let bytes = 0;
  for (let now = from; now < from + seconds * SECOND; now += 1) {
    if (latencyMs > 0) pace.tookMs(latencyMs);
    while (pace.mayPush(0, now)) {
      pace.mayPush(MIB, now);
      bytes += MIB;
    }
    pace.tick(now);
  }
  return bytes;
}

function quiet(pace: RecoveryPace, from: number, seconds: number, latencyMs: number): void {
  for (let now = from; now < from + seconds * SECOND; now += 10) {
    pace.tookMs(latencyMs);
    pace.tick(now);
  }
}

t.test('nobody is there: it gets faster and faster', (t) => {
  const pace = new RecoveryPace();
  push(pace, 0, 4, 0);
  t.ok(pace.rate >= 512 * MIB, `${pace.rate}`);
  t.end();
});

t.test('clients that wait longer make it slower, down to a rate that ends some day', (t) => {
  const pace = new RecoveryPace();
  quiet(pace, 0, 5, 1);
  const before = pace.rate;
  push(pace, 5 * SECOND, 2, 4);
  t.ok(pace.rate < before / 3, `${pace.rate}`);
  push(pace, 7 * SECOND, 20, 4);
  t.equal(pace.rate, 8 * MIB);
  push(pace, 27 * SECOND, 5, 1.2);
  t.ok(pace.rate > 32 * MIB, 'and it comes back when they wait no longer');
  t.end();
});

t.test('a daemon that dies makes no quiet times of what clients waited for it', (t) => {
  const pace = new RecoveryPace();
  quiet(pace, 0, 5, 1);
  quiet(pace, 5 * SECOND, 2, 200);
  const before = pace.rate;
  push(pace, 7 * SECOND, 2, 4);
  t.ok(pace.rate < before / 3, `${pace.rate}`);
  quiet(pace, 9 * SECOND, 60, 20);
  push(pace, 69 * SECOND, 5, 22);
  t.ok(pace.rate > before / 2, 'but what lasts is what it is');
  t.end();
});

t.test('what an operator wants is what is pushed, in no bursts', (t) => {
  const pace = new RecoveryPace();
  pace.wanted = 100 * MIB;
  quiet(pace, 0, 10, 1);
  const seconds = 5;
  const bytes = push(pace, 10 * SECOND, seconds, 50);
  t.ok(Math.abs(bytes / MIB - 100 * seconds) < 10, `${bytes / MIB} MiB`);
  const burst = push(pace, 60 * SECOND, 0.001, 50);
  t.ok(burst <= 4 * MIB, 'what was not used for long is not saved');
  t.ok(pace.mayPush(0, 61 * SECOND));
  pace.mayPush(20 * MIB, 61 * SECOND);
  const { waitMs } = pace;
  t.ok(waitMs > 150 && waitMs < 200, `${waitMs}`);
  t.equal(pace.mayPush(0, 61 * SECOND + waitMs - 5), false);
  t.equal(pace.mayPush(0, 61 * SECOND + waitMs + 1), true);
  t.end();
});

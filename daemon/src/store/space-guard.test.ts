import type { Disk } from '@store/core';
import t from 'tap';
import { SpaceGuard, reserveBytes } from './space-guard.js';

const MIB = 2 ** 20;
const GIB = 2 ** 30;

/** A guard of a disk whose free space and time are set by the test; `asked` counts looks at the disk. */
function guardOf(totalBytes: number): {
  guard: SpaceGuard;
  world: { freeBytes: number; now: number; asked: number };
} {
  const world = { freeBytes: totalBytes, now: 0, asked: 0 };
  const space = (): { totalBytes: number; freeBytes: number } => {
    world.asked += 1;
    return { totalBytes, freeBytes: world.freeBytes };
  };
  const disk = { space } as Disk; // the guard uses nothing else of it
  const clock = { now: () => world.now, wallTime: () => '', wallSeconds: () => 0 };
  return { guard: new SpaceGuard(disk, clock), world };
}

await t.test('the reserve is 1 % of a disk, at least 256 MiB, at most an eighth', (t) => {
  t.equal(reserveBytes(1000 * GIB), 10 * GIB);
  t.equal(reserveBytes(10 * GIB), 256 * MIB);
  t.equal(reserveBytes(1 * GIB), 128 * MIB);
  t.end();
});

await t.test('nothing is allocated out of the reserve', (t) => {
  const { guard, world } = guardOf(10 * GIB);
  world.freeBytes = 256 * MIB + 8192;
  t.notOk(guard.admit(8193));
  t.ok(guard.admit(8192));
  t.end();
});

await t.test('what was admitted counts although the disk does not show it yet', (t) => {
  const { guard, world } = guardOf(10 * GIB);
  world.freeBytes = 256 * MIB + 3 * 4096;
  t.same([1, 2, 3].map(() => guard.admit(4096)), [true, true, true]); // prettier-ignore
  t.equal(world.asked, 1, 'the disk is not asked for each write');
  world.freeBytes = 256 * MIB; // the three writes arrived
  t.notOk(guard.admit(4096));
  t.end();
});

await t.test('space used by others is noticed within a quarter of a second', (t) => {
  const { guard, world } = guardOf(10 * GIB);
  t.ok(guard.admit(4096));
  world.freeBytes = 0;
  world.now = 250;
  t.notOk(guard.admit(4096));
  world.freeBytes = GIB;
  t.ok(guard.admit(4096), 'and space that came back at once');
  t.end();
});

import { DiskError, StoreError, type DataFile, type DiskDone } from '@store/core';
import t from 'tap';
import { DataSync } from './data-sync.js';

/** A data file whose syncs end when the test says so. */
function makeSync() {
  const running: DiskDone[] = [];
  const failures: DiskError[] = [];
  const events: string[] = [];
  let count = 0;
  const file = {
    sync: (done: DiskDone) => {
      count += 1;
      running.push(done);
    },
  } as DataFile; // it uses nothing else of it
  const sync = new DataSync(file, (error) => {
    failures.push(error);
    return new StoreError('E_DISK_FAILED', error.message);
  });
  const ask = (name: string): void =>
    sync.sync((error) => events.push(error === null ? name : `${name}: ${error.code}`));
  const end = (error: DiskError | null = null): void => running.shift()?.(error);
  return { sync, ask, end, events, failures, count: () => count };
}

await t.test('whoever asks while a sync runs is not answered by that one', (t) => {
  const { ask, end, events, count } = makeSync();
  ask('first');
  ask('second');
  ask('third');
  t.equal(count(), 1);
  end();
  t.same(events, ['first']);
  t.equal(count(), 2, 'those who waited share the next one');
  end();
  t.same(events, ['first', 'second', 'third']);
  t.equal(count(), 2, 'and nobody needs another');
  t.end();
});

await t.test('it is dirty at the start, after a write, and until a sync has ended', (t) => {
  const { sync, ask, end } = makeSync();
  t.ok(sync.dirty, 'an earlier process may have left something');
  ask('a');
  t.ok(sync.dirty, 'the sync may still fail');
  end();
  t.notOk(sync.dirty);
  sync.wrote(4096);
  t.ok(sync.dirty);
  ask('b');
  sync.wrote(4096);
  end();
  t.ok(sync.dirty, 'a write during the sync is not covered by it');
  t.end();
});

await t.test('64 MiB unsynced start a sync, one at a time', (t) => {
  const { sync, end, count } = makeSync();
  for (let written = 0; written < 63; written += 1) sync.wrote(2 ** 20);
  t.equal(count(), 0);
  sync.wrote(2 ** 20);
  t.equal(count(), 1);
  for (let written = 0; written < 200; written += 1) sync.wrote(2 ** 20);
  t.equal(count(), 1);
  end();
  t.equal(count(), 1, 'nobody waits');
  sync.wrote(1);
  t.equal(count(), 2, 'more than enough was written meanwhile');
  t.end();
});

await t.test('a caller may ask again from within its answer', (t) => {
  const { sync, end, events, count } = makeSync();
  sync.sync(() => {
    events.push('outer');
    sync.sync(() => events.push('inner'));
  });
  end();
  t.equal(count(), 2);
  t.same(events, ['outer']);
  end();
  t.same(events, ['outer', 'inner']);
  t.end();
});

await t.test('an error is told to all who waited for that sync, and once to the engine', (t) => {
  const { sync, ask, end, events, failures } = makeSync();
  sync.sync(() => events.push('own'));
  end();
  ask('a');
  end(new DiskError('EIO', 'broken'));
  t.same(events, ['own', 'a: E_DISK_FAILED']);
  t.same(failures.map(({ errno }) => errno), ['EIO']); // prettier-ignore
  t.end();
});

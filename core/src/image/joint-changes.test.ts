import t from 'tap';
import { StoreError } from '../util/errors.js';
import { JointChanges } from './joint-changes.js';

const lost = new StoreError('E_LOST_WRITES', 'Lost');
const full = new StoreError('E_NO_SPACE', 'Full');

/** Notes how things ended. */
function book(): { ends: string[]; note: (what: string) => (error: StoreError | null) => void } {
  const ends: string[] = [];
  return { ends, note: (what) => (error) => void ends.push(`${what} ${error?.code ?? 'done'}`) };
}

t.test('what is not under way when a flush is called does not change what it says', async (t) => {
  const joint = new JointChanges();
  const { ends, note } = book();
  joint.begin(note('write'))(null);
  const flush = joint.flush(note('flush'));
  joint.begin(note('later'))(null);
  flush(lost);
  joint.flush(note('next'))(null);
  joint.begin(note('failed'))(full);
  t.same(ends, [
    ...['write done', 'later done', 'flush E_LOST_WRITES'],
    ...['next done', 'failed E_NO_SPACE'],
  ]);
});

t.test('a change whose parts a flush says are lost fails', async (t) => {
  const joint = new JointChanges();
  const { ends, note } = book();
  const write = joint.begin(note('write'));
  joint.flush(note('flush'))(lost);
  write(null);
  joint.flush(note('next'))(null);
  t.same(ends, ['flush E_LOST_WRITES', 'write E_LOST_WRITES', 'next done']);
});

t.test('if it was answered before the flush was, the next flush fails, once', async (t) => {
  const joint = new JointChanges();
  const { ends, note } = book();
  const write = joint.begin(note('write'));
  const refused = joint.begin(note('refused'));
  const flush = joint.flush(note('flush'));
  write(null);
  refused(full);
  flush(lost);
  const slow = joint.flush(note('slow'));
  joint.flush(note('in vain'))(full);
  joint.flush(note('next'))(null);
  slow(full);
  joint.flush(note('last'))(null);
  t.same(ends, [
    ...['write done', 'refused E_NO_SPACE', 'flush E_LOST_WRITES', 'in vain E_NO_SPACE'],
    ...['next E_LOST_WRITES', 'slow E_NO_SPACE', 'last done'],
  ]);
});

import { BufferPool } from '@store/core';
import t from 'tap';
import type { Ack, Behind, Prepare, Refusal } from '../replication/peer-message.js';
import { FORGOTTEN_MS, OpenChanges } from './open-changes.js';
import { sampleMessages } from './testing/sample-messages.js';

const POOL = 7;
const GROUP = 258;

function prepare(index: number, epoch = 3): Prepare {
  const found = sampleMessages().find((message) => message.type === 'prepare');
  if (found?.type !== 'prepare') throw new Error('there is one');
  return { ...found, index, epoch };
}

const at = (epoch: number): { pool: number; group: number; epoch: number } => ({
  pool: POOL,
  group: GROUP,
  epoch,
});
const ack = (indexes: number[], epoch = 3): Ack => ({ type: 'ack', ...at(epoch), indexes });
const refusal = (index: number): Refusal => ({
  ...{ type: 'refusal', ...at(3), index, reason: 'full' },
});
const behind = (index: number, epoch = 3): Behind => ({
  ...{ type: 'behind', ...at(epoch), index, mapVersion: 1 },
});

/** The window and the buffers, with a change of cost 10 for each of these indexes. */
function opened(indexes: number[]): { changes: OpenChanges; buffers: BufferPool } {
  const buffers = new BufferPool(1024 * 1024, { poison: true });
  const changes = new OpenChanges(buffers);
  for (const index of indexes)
    changes.add(prepare(index), { cost: 10, buffer: buffers.take(65_536) }, 0);
  return { changes, buffers };
}

t.test('a change that was acknowledged gives back its place and its buffer, once', async (t) => {
  const { changes, buffers } = opened([0, 1, 2]);
  t.equal(changes.answered(ack([1, 2, 2, 9])), 20);
  const { keptBytes } = buffers;
  t.ok(keptBytes >= 2 * 65_536);
  t.equal(changes.answered(ack([1])), 0);
  t.equal(changes.answered(ack([0], 2)), 0, 'of another epoch');
  t.equal(changes.answered(ack([0])), 10);
  t.equal(buffers.keptBytes, keptBytes * 1.5);
});

t.test(
  'what is refused, and what follows, is waited for no more; its buffer may be in use',
  async (t) => {
    const { changes, buffers } = opened([0, 1, 2]);
    t.equal(changes.answered(refusal(1)), 20);
    t.equal(changes.add(prepare(3), { cost: 10, buffer: null }, 0), 10, 'nothing is said of it');
    t.equal(changes.answered(ack([0])), 10, 'what came before is made');
    t.ok(buffers.keptBytes < 2 * 65_536);
    t.equal(changes.add(prepare(0, 4), { cost: 10, buffer: null }, 0), 0, 'the next epoch begins');
    t.equal(changes.answered(ack([0], 4)), 10);
  },
);

t.test('who waits for another index has dropped those from there on', async (t) => {
  const { changes, buffers } = opened([0, 1, 5]);
  t.equal(changes.answered(behind(2)), 10);
  t.equal(changes.answered(behind(0, 4)), 20, 'and in another epoch all of them');
  t.equal(buffers.keptBytes, 0);
});

t.test('a newer epoch, a change that comes again, and time end the wait as well', async (t) => {
  const { changes, buffers } = opened([0, 1]);
  t.equal(changes.add(prepare(1), { cost: 30, buffer: null }, 0), 10, 'comes again');
  t.equal(changes.sweep(FORGOTTEN_MS - 1), 0);
  t.equal(changes.add(prepare(0, 4), { cost: 5, buffer: null }, 1), 40, 'of an older epoch');
  t.equal(changes.sweep(FORGOTTEN_MS), 0);
  t.equal(changes.sweep(FORGOTTEN_MS + 1), 5);
  t.equal(changes.answered(ack([0], 4)), 0);
  t.equal(buffers.keptBytes, 0, 'nobody knows who uses them still');
});

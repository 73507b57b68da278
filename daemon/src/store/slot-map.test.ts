import { OBJECT_BYTES } from '@store/core';
import fc from 'fast-check';
import t from 'tap';
import { NO_SLOT } from './format.js';
import { SlotMap, slotPosition } from './slot-map.js';

await t.test('slots lie behind the label, one object apart', (t) => {
  t.equal(slotPosition(0), OBJECT_BYTES);
  t.equal(slotPosition(3), 4 * OBJECT_BYTES);
  t.end();
});

await t.test('it gives out the lowest free slot, each to one owner', (t) => {
  const command = fc.oneof(
    fc.record({ do: fc.constant('allocate' as const), at: fc.nat(5000) }),
    fc.record({ do: fc.constantFrom('take' as const, 'free' as const), at: fc.nat(5000) }),
  );
  fc.assert(
    fc.property(fc.array(command, { maxLength: 200 }), (commands) => {
      const slots = new SlotMap(Infinity);
      const taken = new Set<number>();
      const doubled = new Set<number>(); // claimed twice: never free again
      for (const { do: what, at } of commands) {
        if (what === 'allocate') {
          let lowest = 0;
          while (taken.has(lowest)) lowest += 1;
          if (slots.allocate() !== lowest) return false;
          taken.add(lowest);
        } else if (what === 'take') {
          if (slots.take(at) === taken.has(at)) return false;
          if (taken.has(at)) doubled.add(at);
          taken.add(at);
        } else {
          const slot = [...taken][at % Math.max(1, taken.size)];
          if (slot === undefined) continue;
          slots.free(slot);
          if (!doubled.has(slot)) taken.delete(slot);
        }
        if (slots.takenCount !== taken.size || slots.isTaken(at) !== taken.has(at)) return false;
      }
      return true;
    }),
  );
  t.pass('agrees with a set');
  t.end();
});

await t.test('a block device is full after its last whole slot', (t) => {
  const slots = new SlotMap(4 * OBJECT_BYTES - 1); // the label, two slots and a piece
  t.same([slots.allocate(), slots.allocate(), slots.allocate()], [0, 1, null]);
  slots.free(0);
  t.same([slots.allocate(), slots.allocate()], [0, null], 'until one comes back');
  t.equal(new SlotMap(OBJECT_BYTES).allocate(), null, 'room for the label only');
  t.end();
});

await t.test('below a reserved slot nothing is given out again, whatever is freed', (t) => {
  const slots = new SlotMap(Infinity);
  slots.take(2);
  slots.reserveBelow(5);
  t.equal(slots.takenCount, 5, 'a slot that was taken is not counted twice');
  t.equal(slots.allocate(), 5);
  slots.free(2);
  t.equal(slots.allocate(), 2, 'its owner is known and gave it back');
  t.equal(slots.allocate(), 6);
  t.end();
});

await t.test('a slot that is not taken cannot be freed', (t) => {
  const slots = new SlotMap(Infinity);
  t.throws(() => slots.free(0), { message: /freed once/ });
  t.throws(() => slots.free(NO_SLOT), { message: /freed once/ });
  t.end();
});

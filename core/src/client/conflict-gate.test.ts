import fc from 'fast-check';
import t from 'tap';
import { ConflictGate, type Gated } from './conflict-gate.js';

class Operation implements Gated {
  isThrough = false;
  hasLeft = false;

  readonly order: number;
  readonly place: string;
  readonly from: number;
  readonly to: number;
  readonly changes: boolean;

  constructor(order: number, place: string, from: number, to: number, changes: boolean) {
    this.order = order;
    this.place = place;
    this.from = from;
    this.to = to;
    this.changes = changes;
  }

  conflicts(other: Operation): boolean {
    if (this.place !== other.place || !(this.changes || other.changes)) return false;
    return this.from < other.to && other.from < this.to;
  }
}

const operations = fc.array(
  fc.record({
    place: fc.constantFrom('a', 'b'),
    from: fc.nat({ max: 12 }),
    bytes: fc.oneof(fc.nat({ max: 6 }), fc.constant(Infinity)),
    changes: fc.boolean(),
    leave: fc.option(fc.nat({ max: 100 }), { nil: null }),
    /** Who leaves need not be through: it may be given up. */
    givesUp: fc.boolean(),
  }),
  { maxLength: 60 },
);

t.test(
  'who conflicts never runs at once and goes in call order; all others go at once',
  async (t) => {
    fc.assert(
      fc.property(operations, (list) => {
        const all: Operation[] = [];
        const begun: Operation[] = [];
        const begin = (operation: Operation): void => {
          for (const other of begun)
            if (!other.hasLeft && other.conflicts(operation)) throw new Error('both run at once');
          begun.push(operation);
        };
        const gate = new ConflictGate<Operation>(begin);
        const present = (): Operation[] => all.filter((one) => !one.hasLeft);
        const check = (): void => {
          for (const one of present()) {
            const blocked = present().some(
              (other) => other.order < one.order && other.conflicts(one),
            );
            if (one.isThrough === blocked) throw new Error(`operation ${one.order} is wrong`);
            if (one.isThrough !== begun.includes(one))
              throw new Error('it is through and not told');
          }
        };
        const leave = (index: number, givesUp: boolean): void => {
          const here = present().filter((one) => givesUp || one.isThrough);
          const one = here[index % Math.max(1, here.length)];
          if (one === undefined) return;
          one.hasLeft = true;
          gate.leave(one);
          check();
        };
        for (const { place, from, bytes, changes, leave: index, givesUp } of list) {
          const one = new Operation(all.length, place, from, from + bytes, changes);
          all.push(one);
          if (gate.enter(one)) begin(one);
          check();
          if (index !== null) leave(index, givesUp);
        }
        while (present().length > 0) leave(0, false);
        const conflicting = all.flatMap((one) =>
          all
            .filter((other) => other.order > one.order && one.conflicts(other))
            .map((other) => [one, other]),
        );
        for (const [one, other] of conflicting) {
          if (one === undefined || other === undefined) continue;
          if (!begun.includes(one) || !begun.includes(other)) continue; // given up
          if (begun.indexOf(one) > begun.indexOf(other)) throw new Error('out of call order');
        }
      }),
      { numRuns: 500 },
    );
    t.pass('for all that was tried');
  },
);

t.test(
  'reads of the same bytes go at once, and a write behind them waits for the last',
  async (t) => {
    const begun: number[] = [];
    const gate = new ConflictGate<Operation>(({ order }) => begun.push(order));
    const [one, two] = [new Operation(1, 'a', 0, 8, false), new Operation(2, 'a', 0, 8, false)];
    const write = new Operation(3, 'a', 4, 5, true);
    const after = new Operation(4, 'a', 4, 5, false);
    const beside = new Operation(5, 'a', 5, 9, true);
    t.ok(gate.enter(one));
    t.ok(gate.enter(two));
    t.notOk(gate.enter(write));
    t.notOk(gate.enter(after), 'a later read does not overtake the write that waits');
    t.notOk(gate.enter(beside), 'it conflicts with the reads');
    gate.leave(one);
    t.strictSame(begun, []);
    gate.leave(two);
    t.strictSame(begun, [3, 5]);
    gate.leave(write);
    t.strictSame(begun, [3, 5, 4]);
  },
);

t.test('who leaves twice, or never entered, is a defect of ours', async (t) => {
  const gate = new ConflictGate<Operation>(() => undefined);
  const one = new Operation(1, 'a', 0, 1, true);
  t.throws(() => gate.leave(one), /who leaves has entered/);
  gate.enter(one);
  gate.leave(one);
  t.throws(() => gate.leave(one), /who leaves has entered/);
});

import t from 'tap';
import { RequestList, type Listed } from './request-list.js';

class Item implements Listed<Item> {
  before: Item | null = null;
  after: Item | null = null;
  readonly name: string;

  constructor(name: string) {
    this.name = name;
  }
}

t.test('a list keeps the order in which requests were added, whoever leaves', async (t) => {
  const [a, b, c, d] = ['a', 'b', 'c', 'd'].map((name) => new Item(name)) as [
    Item,
    Item,
    Item,
    Item,
  ];
  const list = new RequestList<Item>();
  const names = (): string =>
    list
      .all()
      .map(({ name }) => name)
      .join('');
  for (const item of [a, b, c, d]) list.add(item);
  t.equal(names(), 'abcd');
  list.remove(b);
  t.equal(names(), 'acd', 'without one in the middle');
  list.remove(a);
  list.remove(d);
  t.equal(names(), 'c', 'without both ends');
  list.add(b);
  t.equal(names(), 'cb', 'one that left can come again');
  list.remove(c);
  list.remove(b);
  t.equal(list.size, 0);
  t.same(list.all(), []);
});

t.test('who is not in the list cannot be removed', async (t) => {
  const [a, b] = [new Item('a'), new Item('b')];
  const list = new RequestList<Item>();
  list.add(a);
  t.throws(() => list.remove(b), /in the list/);
  list.remove(a);
  t.throws(() => list.remove(a), /in the list/);
});

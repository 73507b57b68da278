import t from 'tap';
import { LinkLedger } from './link-ledger.js';

t.test('a link is replaced only after the kernel has taken note that it died', (t) => {
  const ledger = new LinkLedger(2);
  ledger.weSaw(2, 1000);
  t.equal(ledger.missing, 0, 'a new socket would be ignored now');
  t.ok(ledger.troubled);
  ledger.kernelSaid(1);
  t.equal(ledger.missing, 1);
  ledger.kernelSaid(1);
  t.equal(ledger.missing, 2);
  t.equal(ledger.tick(60_000), 0, 'nothing is overdue');
  ledger.replaced();
  ledger.replaced();
  t.notOk(ledger.troubled);
  t.end();
});

t.test("the kernel's word may come first", (t) => {
  const ledger = new LinkLedger(2);
  ledger.kernelSaid(1);
  ledger.weSaw(1, 0);
  ledger.replaced();
  t.equal(ledger.tick(60_000), 0);
  t.notOk(ledger.troubled);
  t.end();
});

t.test('a word of the kernel that does not come is not waited for without end', (t) => {
  const ledger = new LinkLedger(1);
  ledger.weSaw(1, 1000);
  t.equal(ledger.tick(2900), 0);
  t.equal(ledger.tick(3000), 1);
  t.equal(ledger.missing, 1);
  const dropped = new LinkLedger(2);
  dropped.weSaw(2, 0);
  dropped.wordsWereLost();
  t.equal(dropped.missing, 2);
  t.end();
});

t.test('there are never more links to replace than links', (t) => {
  const ledger = new LinkLedger(2);
  ledger.kernelSaid(9);
  t.equal(ledger.missing, 2);
  t.end();
});

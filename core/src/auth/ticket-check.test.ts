import t from 'tap';
import { Blocklist } from './blocklist.js';
import { PoolSecret } from './pool-secret.js';
import { checkTicket, recheckTicket, SecretRing } from './ticket-check.js';
import { encodeTicket, makeTicket } from './ticket.js';
import { TicketFile } from './ticket-file.js';

const fixed = (byte: number): { bytes: (count: number) => Buffer } => ({
  bytes: (count) => Buffer.alloc(count, byte),
});
const old = PoolSecret.create('testpool', 1, fixed(1));
const present = PoolSecret.create('testpool', 2, fixed(2));
const next = PoolSecret.create('testpool', 3, fixed(3));
const other = PoolSecret.create('other', 3, fixed(4));
const secrets = new SecretRing([old, present, other]);
const blocklist = new Blocklist();

const NOW = 1_700_000_000;
const fields = { client: 'host1', rights: 'rw', issued: NOW, expires: NOW + 60 } as const;
const ticket = makeTicket(present, fields, fixed(0xab));
const bytes = encodeTicket(ticket);
const check = (at: number, blocked = blocklist): unknown =>
  checkTicket(bytes, { secrets, blocklist: blocked }, at);

await t.test('a daemon finds the key of a ticket it has never seen, of each generation', (t) => {
  for (const secret of [old, present, other]) {
    const file = TicketFile.of(secret, makeTicket(secret, fields, fixed(9)));
    const checked = checkTicket(file.ticketBytes, { secrets, blocklist }, NOW);
    t.same(checked.key, file.key);
    t.same(checked.ticket, file.ticket);
    const { client, rights, expires } = fields;
    t.same(checked.grants, { client, pool: secret.pool, rights, expires });
  }
  t.end();
});

await t.test('what was changed in a ticket has another key than its client', (t) => {
  const file = TicketFile.of(present, ticket);
  for (const change of [{ rights: 'rwa' }, { expires: NOW + 61 }, { client: 'host2' }] as const) {
    const forged = encodeTicket({ ...ticket, ...change });
    t.notSame(checkTicket(forged, { secrets, blocklist }, NOW).key, file.key);
  }
  t.end();
});

await t.test('a refusal says why', (t) => {
  const refused = (work: () => unknown, message: RegExp): void =>
    void t.throws(work, { code: 'E_DENIED', message });
  const ofSecret = (secret: PoolSecret, known: SecretRing): unknown =>
    checkTicket(
      encodeTicket(makeTicket(secret, fields, fixed(1))),
      { secrets: known, blocklist },
      NOW,
    );
  refused(() => ofSecret(next, secrets), /generation 3 of the pool's secret; known here: 1, 2$/);
  refused(
    () => ofSecret(other, new SecretRing([old])),
    /for pool "other", whose secret is not here/,
  );
  refused(() => ofSecret(old, new SecretRing([])), /for pool "testpool"/);
  refused(() => check(NOW + 60), /expired at 2023-11-14 22:14:20 UTC; get a new one/);
  refused(
    () => check(NOW - 301),
    /is of 2023-11-14 22:13:20 UTC, and here it is 2023-11-14 22:08:19/,
  );
  refused(() => check(NOW, new Blocklist([ticket.id])), /ticket (ab){16} was revoked/);
  refused(() => check(NOW, new Blocklist([], ['host1'])), /client "host1" was revoked/);
  refused(() => checkTicket(Buffer.alloc(60), { secrets, blocklist }, NOW), /something else/);
  t.end();
});

await t.test('what masters hand out may be on its way', (t) => {
  const ring = new SecretRing([present], { areHandedOut: true });
  const shown = (secret: PoolSecret): unknown =>
    checkTicket(
      encodeTicket(makeTicket(secret, fields, fixed(1))),
      { secrets: ring, blocklist },
      NOW,
    );
  t.throws(() => shown(other), { code: 'E_STALE_MAP', message: /whose secret is not here/ });
  t.throws(() => shown(next), { code: 'E_STALE_MAP', message: /generation 3/ });
  t.throws(() => shown(old), { code: 'E_DENIED', message: /generation 1/ }, 'a secret of the past');
  t.ok(shown(present));
  t.end();
});

await t.test('time is exact at the end and generous by 5 minutes at the beginning', (t) => {
  for (const at of [NOW - 300, NOW, NOW + 59]) t.ok(check(at), String(at));
  for (const at of [NOW - 301, NOW + 60, NOW + 10 ** 9]) t.throws(() => check(at), String(at));
  t.end();
});

await t.test(
  'a ticket in use is refused when its time is over, it was revoked or its secret replaced meanwhile',
  (t) => {
    const known = { secrets, blocklist };
    const checked = checkTicket(encodeTicket(ticket), known, NOW);
    recheckTicket(checked, known, NOW + 59);
    t.throws(() => recheckTicket(checked, known, NOW + 60), { code: 'E_DENIED' });
    const revoking = { secrets, blocklist: new Blocklist([], ['host1']) };
    t.throws(() => recheckTicket(checked, revoking, NOW), { code: 'E_DENIED' });
    const twin = PoolSecret.create(ticket.pool, ticket.generation, fixed(77));
    t.throws(() => recheckTicket(checked, { secrets: new SecretRing([twin]), blocklist }, NOW), {
      code: 'E_DENIED',
      message: /made with a secret that is not known any more/,
    });
    t.end();
  },
);

await t.test('two secrets of one pool and generation are refused', (t) => {
  t.same(secrets.pools, ['testpool', 'other']);
  const twin = PoolSecret.create('testpool', 1, fixed(5));
  t.throws(() => new SecretRing([old, present, twin]), {
    code: 'E_INVALID',
    message: /given twice/,
  });
  t.end();
});

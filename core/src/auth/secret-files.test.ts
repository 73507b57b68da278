/** The files of secrets and tickets, and the blocklist: what is taken, and that nothing secret is ever said. */
import { inspect } from 'node:util';
import t from 'tap';
import { Blocklist } from './blocklist.js';
import { PoolSecret } from './pool-secret.js';
import { makeTicket } from './ticket.js';
import { TicketFile } from './ticket-file.js';

const fixed = (byte: number): { bytes: (count: number) => Buffer } => ({
  bytes: (count) => Buffer.alloc(count, byte),
});
const SECRET = Buffer.alloc(32, 7).toString('base64url');
const secret = PoolSecret.create('testpool', 3, fixed(7));
const file = TicketFile.of(
  secret,
  makeTicket(secret, { client: 'host1', rights: 'rwa', issued: 5, expires: 9 }, fixed(0xab)),
);
const KEY = file.key.toString('base64url');

/** Everything of an error that a log could print. */
function saidBy(work: () => unknown): { code: unknown; all: string } {
  try {
    work();
  } catch (error) {
    return { code: (error as { code?: unknown }).code, all: inspect(error, { depth: 9 }) }; // read only
  }
  return { code: null, all: '' };
}

await t.test('a secret and a ticket file are the text they have always been', (t) => {
  t.equal(
    secret.toText(),
    `{"format":"store pool secret 1","pool":"testpool","generation":3,"secret":"${SECRET}"}\n`,
  );
  t.match(
    file.toText(),
    /^\{"format":"store ticket 1","ticket":"dGlrd[\w-]+","key":"[\w-]{43}"\}\n$/,
  );
  const read = TicketFile.parse('f', file.toText());
  t.same([read.ticket, read.key], [file.ticket, file.key]);
  const again = PoolSecret.parse('f', `  ${secret.toText().replaceAll(',', ',\n  ')}`);
  t.equal(again.toText(), secret.toText(), 'blanks and lines do not matter');
  t.end();
});

await t.test('a fingerprint tells secrets apart and does not show them', (t) => {
  t.equal(secret.fingerprint(), '22d467ad1059a59d');
  t.not(PoolSecret.create('testpool', 3, fixed(8)).fingerprint(), secret.fingerprint());
  t.end();
});

await t.test('whoever prints a secret or a ticket file prints no key', (t) => {
  for (const shown of [inspect(secret, { depth: 9, showHidden: true }), JSON.stringify(secret)])
    t.notMatch(shown, /0707|\b7, 7|07 07|BwcH/);
  for (const shown of [inspect(file, { depth: 9, showHidden: true }), JSON.stringify(file)]) {
    t.notOk(shown.includes(KEY));
    t.notOk(shown.includes(inspect(file.key).slice(8, 40)));
    t.notOk(shown.includes(JSON.stringify([...file.key]).slice(1, -1)));
  }
  t.end();
});

await t.test('no truncation of a file is taken, and none is told of', (t) => {
  for (const [text, hidden, parse] of [
    [secret.toText(), SECRET, (part: string) => PoolSecret.parse('f', part)],
    [file.toText(), KEY, (part: string) => TicketFile.parse('f', part)],
  ] as const)
    for (let end = 0; end < text.trimEnd().length; end += 1) {
      const { code, all } = saidBy(() => parse(text.slice(0, end)));
      t.equal(code, 'E_INVALID', `${end} characters`);
      t.notOk(all.includes(hidden.slice(0, 6)), 'nothing of the secret is said');
    }
  t.end();
});

await t.test('what is wrong with a file is said without what stands in it', (t) => {
  const good = { format: 'store pool secret 1', pool: 'p', generation: 1, secret: SECRET };
  const bad: readonly [RegExp, string][] = [
    [/f is not a pool secret: it is not JSON/, SECRET],
    [/f is not a pool secret: it is not JSON/, `{"secret": "${SECRET}" oops`],
    [/f is not a pool secret$/m, '[]'],
    [/f is not a pool secret$/m, 'null'],
    [/its "format" is not "store pool secret 1"/, JSON.stringify({ ...good, format: SECRET })],
    [/its "format" is not/, file.toText()],
    [/"secret" is missing/, JSON.stringify({ ...good, secret: undefined })],
    [/has other fields/, JSON.stringify({ ...good, [SECRET]: 1 })],
    [/"pool" is empty/, JSON.stringify({ ...good, pool: '' })],
    [/"pool" is not a text/, JSON.stringify({ ...good, pool: [SECRET] })],
    [/"generation" is not a number/, JSON.stringify({ ...good, generation: 0 })],
    [/"generation" is not a number/, JSON.stringify({ ...good, generation: 2 ** 32 })],
    [/"generation" is not a number/, JSON.stringify({ ...good, generation: '1' })],
    [/"secret" is not 32 bytes/, JSON.stringify({ ...good, secret: SECRET.slice(1) })],
    [/"secret" is not 32 bytes/, JSON.stringify({ ...good, secret: `${SECRET}=` })],
    [/"secret" is not 32 bytes/, JSON.stringify({ ...good, secret: `${SECRET.slice(0, -1)}d` })],
    [/"secret" is not 32 bytes/, JSON.stringify({ ...good, secret: [7] })],
    [/too long/, JSON.stringify(good) + ' '.repeat(5000)],
  ];
  for (const [message, text] of bad) {
    const { code, all } = saidBy(() => PoolSecret.parse('f', text));
    t.equal(code, 'E_INVALID', message.source);
    t.match(all, message);
    t.notOk(all.includes(SECRET.slice(0, 10)), 'nothing of the secret is said');
  }
  const { ticket } = JSON.parse(file.toText()) as { ticket: string }; // as above
  const badTicket = (fields: object): string =>
    saidBy(() =>
      TicketFile.parse(
        'f',
        JSON.stringify({ format: 'store ticket 1', ticket, key: KEY, ...fields }),
      ),
    ).all;
  t.equal(badTicket({}), '');
  t.match(badTicket({ ticket: ticket.slice(4) }), /E_INVALID/);
  t.match(badTicket({ ticket: `${ticket}*` }), /"ticket" is not base64url/);
  t.match(badTicket({ key: KEY.slice(2) }), /"key" is not 32 bytes/);
  t.end();
});

await t.test('a pool secret cannot be made for every name or number', (t) => {
  for (const pool of ['', 'a\nb', ' a', 'p'.repeat(129)])
    t.throws(() => PoolSecret.create(pool, 1, fixed(1)), { code: 'E_INVALID' });
  for (const generation of [0, -1, 1.5, NaN, 2 ** 32])
    t.throws(() => PoolSecret.create('p', generation, fixed(1)), { code: 'E_INVALID' });
  t.end();
});

await t.test('a blocklist names tickets and clients, and no line of it is passed over', (t) => {
  const id = '3F0c5a9e7d214b6880f1c2d3e4a5b697';
  const list = Blocklist.parse('b', `# ours\r\n\n${id}\nclient build host #7\nclient ${id}`);
  t.equal(list.size, 3);
  const of = (fields: object): unknown => list.revokedBy({ ...file.ticket, ...fields });
  t.equal(of({}), null);
  t.equal(of({ id: id.toLowerCase() }), 'ticket');
  t.equal(of({ client: 'build host #7' }), 'client');
  t.equal(of({ client: id }), 'client');
  t.equal(of({ client: 'build host' }), null);
  for (const line of [
    ...['host1', id.slice(1), `${id}0`, ` ${id}`, `${id} # mine`, 'client', 'client ', 'Client a'],
    ...['client  a', 'client a ', `client ${'a'.repeat(129)}`, '\ufeff# bom'],
  ])
    t.throws(
      () => Blocklist.parse('b', `# ours\n${line}`),
      { code: 'E_INVALID', message: /^b, line 2: / },
      JSON.stringify(line),
    );
  t.end();
});

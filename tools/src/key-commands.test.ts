/** `store key`, run as people run it: what it writes is what daemons take, and nothing secret is ever shown. */
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import {
  Blocklist,
  checkTicket,
  PoolSecret,
  SecretRing,
  StoreError,
  TicketFile,
} from '@store/core';
import t from 'tap';
import { failed, runStore, succeeded } from './run-store.js';

t.setTimeout(360_000);

const read = (...path: string[]): string => readFileSync(join(...path), 'utf8');
const modeOf = (...path: string[]): number => statSync(join(...path)).mode & 0o777;
const secretOf = (...path: string[]): PoolSecret => PoolSecret.parse('f', read(...path));
const ticket = (...more: string[]): string[] =>
  'key ticket --pool testpool --client host1 --rights rw --expires 30d'.split(' ').concat(more);

await t.test('a daemon with the secret takes the ticket that was made with it', async (t) => {
  const dir = t.testdir();
  const made = await runStore(dir, ['key', 'create', '--pool', 'testpool']);
  succeeded(t, made, /generation 1 .*'testpool': testpool\.secret\n.*\n +store key ticket --pool/);
  t.equal(modeOf(dir, 'testpool.secret'), 0o600);
  const before = Math.floor(Date.now() / 1000);
  const printed = await runStore(dir, ticket());
  succeeded(t, printed, /ticket for 'host1': host1\.ticket\nIt allows rw in pool 'testpool' until/);
  t.equal(modeOf(dir, 'host1.ticket'), 0o600);
  const file = TicketFile.parse('f', read(dir, 'host1.ticket'));
  const secret = secretOf(dir, 'testpool.secret');
  const known = { secrets: new SecretRing([secret]), blocklist: new Blocklist() };
  const checked = checkTicket(file.ticketBytes, known, before + 5);
  t.same(checked.key, file.key);
  t.match(checked.grants, { client: 'host1', pool: 'testpool', rights: 'rw' });
  const lasts = checked.ticket.expires - checked.ticket.issued;
  t.equal(lasts, 30 * 86_400);
  t.ok(checked.ticket.issued >= before && checked.ticket.issued < before + 60);
  for (const { stdout } of [made, printed]) {
    t.notOk(stdout.includes(secret.toText().slice(-30, -4)));
    t.notOk(stdout.includes(file.key.toString('base64url').slice(0, 20)));
  }
});

await t.test(
  'files are for their owner alone whatever the umask, and where they were asked for',
  async (t) => {
    const dir = t.testdir({ deep: {} });
    const old = process.umask(0);
    t.teardown(() => process.umask(old));
    const create = ['key', 'create', '--pool', '../x', '--out', 'deep/x', '--json'];
    const made = await runStore(dir, create);
    t.match(JSON.parse(made.stdout), { file: 'deep/x', pool: '../x', generation: 1 });
    t.equal(modeOf(dir, 'deep', 'x'), 0o600);
    process.umask(0o777);
    const out = ['--secret', 'deep/x', '--out', 'deep/t', '--json'];
    const given = await runStore(
      dir,
      ticket(...out).filter((one) => !/^(--pool|testpool)$/.test(one)),
    );
    process.umask(old);
    t.match(JSON.parse(given.stdout), {
      file: 'deep/t',
      pool: '../x',
      client: 'host1',
      rights: 'rw',
    });
    t.equal(modeOf(dir, 'deep', 't'), 0o600);
  },
);

await t.test('show says what a file is and shows nothing that must stay secret', async (t) => {
  const dir = t.testdir();
  await runStore(dir, ['key', 'create', '--pool', 'testpool']);
  await runStore(dir, ticket());
  const secret = await runStore(dir, ['key', 'show', 'testpool.secret']);
  succeeded(
    t,
    secret,
    /secret of a pool\npool +testpool\ngeneration +1\nfingerprint +[\da-f]{16}\n$/,
  );
  const shown = await runStore(dir, ['key', 'show', 'host1.ticket']);
  succeeded(t, shown, /client +host1\npool +testpool\nrights +rw\n/);
  const json = await runStore(dir, ['key', 'show', 'host1.ticket', '--json']);
  t.match(JSON.parse(json.stdout), {
    kind: 'ticket',
    client: 'host1',
    expired: false,
    private: true,
  });
  chmodSync(join(dir, 'host1.ticket'), 0o644);
  succeeded(t, await runStore(dir, ['key', 'show', 'host1.ticket']), /chmod 600 host1\.ticket/);
  const { secret: hidden } = JSON.parse(read(dir, 'testpool.secret')) as { secret: string }; // ours
  const { key } = JSON.parse(read(dir, 'host1.ticket')) as { key: string }; // ours
  writeFileSync(join(dir, 'cut'), read(dir, 'testpool.secret').slice(0, -4));
  writeFileSync(join(dir, 'old'), read(dir, 'host1.ticket').replace('"key":"', '"key":"A'));
  const cut = await runStore(dir, ['key', 'show', 'cut', '-v']);
  const old = await runStore(dir, ['key', 'show', 'old', '-v']);
  t.same([cut.code, old.code], [1, 1]);
  t.match([cut.stderr, old.stderr], [/cut is not a pool secret.*a part/, /"key" is not 32 bytes/]);
  for (const { stdout, stderr } of [secret, shown, json, cut, old])
    for (const text of [hidden, key]) t.notOk((stdout + stderr).includes(text.slice(0, 12)));
});

await t.test('a secret is followed by its next generation, and both go on working', async (t) => {
  const dir = t.testdir();
  const create = ['key', 'create', '--pool', 'testpool'];
  failed(t, await runStore(dir, [...create, '--rotate']), 1, /no testpool\.secret to follow/);
  await runStore(dir, create);
  const first = read(dir, 'testpool.secret');
  succeeded(
    t,
    await runStore(dir, [...create, '--rotate']),
    /generation 2 .*testpool\.secret\.2\n/,
  );
  succeeded(t, await runStore(dir, [...create, '--rotate']), /--secret testpool\.secret\.3/);
  t.equal(read(dir, 'testpool.secret'), first, 'what was there is as it was');
  t.equal(modeOf(dir, 'testpool.secret.3'), 0o600);
  failed(t, await runStore(dir, ticket()), 2, /Which secret: testpool\.secret, .*\.3\? .*--secret/);
  succeeded(t, await runStore(dir, ticket('--secret', 'testpool.secret.2')), /host1\.ticket/);
  const file = TicketFile.parse('f', read(dir, 'host1.ticket'));
  t.equal(file.ticket.generation, 2);
  const all = ['', '.2', '.3'].map((end) => secretOf(dir, `testpool.secret${end}`));
  t.equal(new Set(all.map((one) => one.fingerprint())).size, 3);
  const known = { secrets: new SecretRing(all), blocklist: new Blocklist() };
  t.same(checkTicket(file.ticketBytes, known, file.ticket.issued).key, file.key);
});

await t.test('nothing that is there is overwritten', async (t) => {
  const dir = t.testdir();
  const create = ['key', 'create', '--pool', 'testpool'];
  await runStore(dir, create);
  await runStore(dir, ticket());
  const before = [read(dir, 'testpool.secret'), read(dir, 'host1.ticket')];
  failed(t, await runStore(dir, create), 1, /testpool\.secret is there already.*--rotate.*--out/);
  failed(t, await runStore(dir, ticket()), 1, /host1\.ticket is there already.*--out FILE/);
  t.same([read(dir, 'testpool.secret'), read(dir, 'host1.ticket')], before);
  writeFileSync(join(dir, 'victim'), 'mine');
  symlinkSync('victim', join(dir, 'link'));
  symlinkSync('nowhere', join(dir, 'dangling'));
  for (const out of ['link', 'dangling'])
    failed(t, await runStore(dir, ticket('--out', out)), 1, /is there already/);
  t.equal(read(dir, 'victim'), 'mine');
  t.same(readdirSync(dir).sort(), [
    'dangling',
    'host1.ticket',
    'link',
    'testpool.secret',
    'victim',
  ]);
  writeFileSync(join(dir, 'other.secret'), before[0] ?? '');
  failed(
    t,
    await runStore(dir, ['key', 'create', '--pool', 'other', '--rotate']),
    1,
    /other\.secret is the secret of pool "testpool", not of "other"/,
  );
});

await t.test('clumsy use is one line that says what to do', async (t) => {
  const dir = t.testdir();
  const create = (...args: string[]): Promise<unknown> => runStore(dir, ['key', 'create', ...args]);
  const check = async (args: readonly string[], code: number, says: RegExp): Promise<void> =>
    failed(t, await runStore(dir, args), code, says);
  await check(['key'], 2, /Give a command/);
  await check(['key', 'create'], 2, /Say which pool: store key create --pool NAME/);
  for (const pool of ['../x', 'a/b', '.hidden', '..', 'a\\b', '/etc/x'])
    await check(['key', 'create', '--pool', pool], 2, /not fit for the name of a file.*--out FILE/);
  await check(['key', 'create', '--pool', 'a\nb'], 2, /control character/);
  await check(['key', 'create', '--pool', 'p', '--out', 'no/p'], 1, /Cannot write no\/p: ENOENT/);
  // nobody may make files there, not even root
  await check(['key', 'create', '--pool', 'p', '--out', '/sys/p'], 1, /Cannot write \/sys\/p/);
  t.same(readdirSync(dir), [], 'nothing was made');
  await check(ticket(), 1, /no testpool\.secret here; make one with store key create.*--secret/);
  await create('--pool', 'testpool');
  const without = (flag: string): string[] =>
    ticket().filter((one, index, all) => one !== flag && all[index - 1] !== flag);
  await check(without('--pool'), 2, /Say which pool/);
  await check(without('--client'), 2, /--client NAME/);
  await check(without('--rights'), 2, /--rights rw/);
  await check(without('--expires'), 2, /--expires 30d/);
  for (const time of ['30', '30s', '1.5d', '-1d', '0d', '4000d', '999999999d', 'd'])
    await check(
      ticket(`--expires=${time}`),
      2,
      /Bad --expires: .*(write for example|out of range)/,
    );
  await check(ticket('--rights', 'w'), 2, /Bad --rights: 'w' is not one of r, rw, rwa/);
  await check(ticket('--client', '../../x'), 2, /name of the client.*--out FILE/);
  await check(ticket('--client', 'a\tb', '--out', 'x'), 2, /control character/);
  await check(ticket('--secret', 'nope'), 1, /Cannot read nope/);
  await check(ticket('--secret', '.'), 1, /\. is not a file/);
  await check(
    [...ticket('--secret', 'testpool.secret'), '--pool', 'q'],
    1,
    /"testpool", not of "q"/,
  );
  await check(['key', 'show'], 2, /[Mm]issing required argument 'file'/);
  await check(['key', 'show', 'nope'], 1, /Cannot read nope/);
  execFileSync('mkfifo', [join(dir, 'pipe')]);
  await check(['key', 'show', 'pipe'], 1, /pipe is not a file/);
  writeFileSync(join(dir, 'large'), Buffer.alloc(5000, 97));
  await check(['key', 'show', 'large'], 1, /more than 4096 bytes/);
  writeFileSync(join(dir, 'bytes'), Buffer.from([0xff, 0xfe]));
  await check(['key', 'show', 'bytes'], 1, /bytes is not text/);
  writeFileSync(join(dir, 'text'), 'hello');
  await check(['key', 'show', 'text'], 1, /text is neither a pool secret nor a ticket/);
});

await t.test('a revoked ticket is refused by the id that was printed', async (t) => {
  const dir = t.testdir();
  await runStore(dir, ['key', 'create', '--pool', 'testpool']);
  const { stdout } = await runStore(dir, ticket());
  const id = /its id is ([\da-f]{32})\n/.exec(stdout)?.[1] ?? '';
  const file = TicketFile.parse('f', read(dir, 'host1.ticket'));
  const known = {
    secrets: new SecretRing([secretOf(dir, 'testpool.secret')]),
    blocklist: Blocklist.parse('b', `# lost\n${id}\n`),
  };
  t.throws(() => checkTicket(file.ticketBytes, known, file.ticket.issued), StoreError);
});

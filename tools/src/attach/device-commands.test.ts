// What a newcomer does wrong with attach, detach and ps: one line that says what to do, and the right exit code.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import t from 'tap';

const program = fileURLToPath(new URL('../../bin/store-nbd.js', import.meta.url));

function storeNbd(...args: readonly string[]): {
  status: number | null;
  out: string;
  said: string;
} {
  const result = spawnSync(process.execPath, [program, ...args], {
    encoding: 'utf8',
    timeout: 30_000,
  });
  return { status: result.status, out: result.stdout, said: result.stderr };
}

t.test('what is wrong on the command line is said before anything is done', (t) => {
  for (const [args, words] of [
    [['attach'], /argument 'uri'/],
    [['attach', 'localhost:10809'], /not an NBD URI; write nbd:/],
    [['attach', 'nbds://h/'], /does not speak TLS/],
    [['attach', 'nbd://h/', 'sda'], /write for example \/dev\/nbd0/],
    [['attach', 'nbd://h/', '/dev/nbd0p1'], /name the whole device/],
    [['attach', 'nbd://h/', '--connections', '99'], /1 to 16/],
    [['attach', 'nbd://h/', '--dead-timeout', '0'], /write for example 60s/],
    [['attach', 'nbd://h/', '--connections', '2', '--timeout', '0'], /single connection/],
    [['detach'], /argument 'device'/],
    [['detach', 'sda'], /write for example \/dev\/nbd0/],
  ] as const) {
    const { status, said } = storeNbd(...args);
    t.equal(status, 2, args.join(' '));
    t.match(said, words);
    t.equal(said.trimEnd().split('\n').length, 1, 'one line');
  }
  t.end();
});

t.test('a device that is not attached cannot be detached', (t) => {
  const { status, said } = storeNbd('detach', '/dev/nbd99999');
  t.equal(status, 1);
  t.match(said, /not attached; see what is with: store-nbd ps/);
  t.end();
});

t.test('ps prints JSON, and attach --print needs neither root nor a server', (t) => {
  const { status, out } = storeNbd('ps', '--json');
  t.equal(status, 0);
  t.type(JSON.parse(out), Array);
  const printed = storeNbd('attach', '--print', 'nbd://no-such-host.invalid/vm1');
  t.equal(printed.status, 0);
  t.match(printed.out, 'nbd-client no-such-host.invalid 10809 /dev/nbd0 -N vm1');
  t.end();
});

/** What is asked before the cluster is changed, on a real terminal. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { until } from '../run-programs.js';
import { startCluster, type TestCluster } from './run-cluster.js';

t.setTimeout(360_000);

const PROGRAM = fileURLToPath(new URL('../../bin/store.js', import.meta.url));
/** The environment without what a developer may have set. */
const environment = Object.fromEntries(
  Object.entries(process.env).filter(([name]) => !/^STORE_|^NO_COLOR$/.test(name)),
);
const CTRL_C = '\x03';
const CTRL_D = '\x04';

/** Runs a command line of `store` on a terminal of its own. @param typed - As soon as something is asked. */
async function onTerminal(
  { address, folder }: TestCluster,
  line: string,
  typed: string | null,
  env: Readonly<Record<string, string>> = {},
): Promise<{ code: number; shown: string }> {
  // The shell says the exit code: script(1) answers 0 if the terminal closes before it has seen its child end. It has to
  // outlive ctrl-c for that; what is trapped, unlike what is ignored, is not handed down.
  const shellLine = `trap : INT; ${process.execPath} ${PROGRAM} ${line}; echo "exit $?"`;
  const child = spawn('script', ['-qc', shellLine, '/dev/null'], {
    cwd: folder,
    env: { ...environment, STORE_MASTER: address, TERM: 'xterm', ...env },
  });
  let shown = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (shown += text));
  const closed = once(child, 'close');
  if (typed !== null) {
    await until(() => /\[y\/N\] $|type its name: $/.test(shown), `a question of ${line}`);
    child.stdin.write(typed);
  }
  await closed;
  const exit = /exit (\d+)\r\n$/.exec(shown);
  return { code: Number(exit?.[1]), shown: shown.slice(0, exit?.index) };
}

function hasScript(): boolean {
  try {
    execFileSync('script', ['--version']);
    return true;
  } catch {
    return false;
  }
}

const skip = hasScript() ? false : 'this machine has no script(1)';

await t.test('only who says yes changes the cluster', { skip }, async (t) => {
  const cluster = await startCluster(t);
  await cluster.daemon('disk1');
  await cluster.store('pool', 'create', 'vms', '--groups', '4');
  const before = await cluster.json('map', 'show');
  const answers = await Promise.all([
    onTerminal(cluster, 'daemon drain 1', 'n\n'),
    onTerminal(cluster, 'daemon drain 1', '\n'),
    onTerminal(cluster, 'daemon reweight 1 7', CTRL_D),
    onTerminal(cluster, 'pool rm vms', 'y\n'),
    onTerminal(cluster, 'client rm admin', CTRL_C),
  ]);
  for (const { code, shown } of answers) {
    t.match(shown, /store: Nothing was changed\r\n$/);
    t.equal(code, 1);
  }
  t.match(
    answers[0].shown,
    /Daemon 1: make it draining\r\n.*No copy of a group moves\r\n.*Go on\? \[y\/N\] /s,
  );
  t.match(answers[3].shown, /Remove pool 'vms' .*cannot be undone\. To go on, type its name: /s);
  t.same(await cluster.json('map', 'show'), before);

  const drained = await onTerminal(cluster, 'daemon drain 1', 'y\n');
  t.match(drained, { code: 0, shown: /\r\nDone: Daemon 1: make it draining\r\n/ });
  const removed = await onTerminal(cluster, 'pool rm vms', 'vms\n');
  t.match(removed, { code: 0, shown: /\r\nDone: Remove pool 'vms' and all that it holds\r\n/ });
  t.match(await cluster.json('daemon', 'ls'), [{ membership: 'draining', groups: 0 }]);
});

await t.test('colours are for terminals, unless NO_COLOR is set', { skip }, async (t) => {
  const cluster = await startCluster(t);
  const [coloured, plain] = await Promise.all([
    onTerminal(cluster, 'status', null),
    onTerminal(cluster, 'status', null, { NO_COLOR: '1' }),
  ]);
  t.match(coloured, { code: 0, shown: /^Health: \x1b\[33mwarning\x1b\[0m, 1 problem\r\n/ });
  t.match(plain, { code: 0, shown: /^Health: warning, 1 problem\r\n/ });
});

// `store dev up`, as somebody who tries it out: everything runs in one terminal, and all of it ends together.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { tempFolder, type HasTeardown } from '../host/temp-folder.js';
import { waitUntil } from '../host/wait-until.js';
import { NbdClient } from '../nbd-client/nbd-client.js';
import { isAlive } from '../server/replaceable-server.js';
import { programPath } from '../server/store-programs.js';

t.setTimeout(600_000);

const START_MS = 40_000;
const STOP_MS = 30_000;
const DAEMONS = 3;
/** Master, daemons, gateway. */
const CHILDREN = DAEMONS + 2;

class DevCluster {
  readonly #child: ChildProcess;
  #out = '';
  #log = '';

  static async start(t: HasTeardown, dir: string): Promise<DevCluster> {
    const cluster = new DevCluster(t, dir);
    await waitUntil('all of it to run', START_MS, () => {
      if (cluster.#child.exitCode !== null) throw new Error(cluster.log);
      return cluster.#out.includes('Ctrl-C stops');
    });
    return cluster;
  }

  private constructor(t: HasTeardown, dir: string) {
    this.#child = spawn(
      programPath('store'),
      ['dev', 'up', '--free-ports', '--daemons', `${DAEMONS}`, '--dev-dir', dir],
      // What somebody has set for another cluster is not meant for this one.
      {
        stdio: ['ignore', 'pipe', 'pipe'],
        env: { ...process.env, STORE_MASTER: '127.0.0.1:1', STORE_CA_CERT: 'none.crt' },
      },
    );
    this.#child.stdout?.setEncoding('utf8').on('data', (text: string) => (this.#out += text));
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => (this.#log += text));
    t.teardown(() => {
      const children = this.#child.exitCode === null ? this.children : [];
      this.#child.kill('SIGKILL');
      for (const pid of children) process.kill(pid, 'SIGKILL');
    });
  }

  get log(): string {
    return this.#out + this.#log;
  }

  /** The address of the dashboard. */
  get dashboard(): string {
    return /dashboard\s+(\S+)/.exec(this.#out)?.[1] ?? '';
  }

  get uri(): string {
    return /image\s+(nbd:\S+)/.exec(this.#out)?.[1] ?? '';
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Processes that it has started. */
  get children(): number[] {
    const list = readFileSync(`/proc/${this.pid}/task/${this.pid}/children`, 'utf8');
    return list.split(' ').filter(Boolean).map(Number);
  }

  /** Of the child whose command line contains all of `words`. */
  child(...words: string[]): number {
    const found = this.children.find((pid) => {
      const line = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
      return words.every((word) => line.some((argument) => argument.includes(word)));
    });
    if (found === undefined) throw new Error(`nobody runs ${words.join(' ')}`);
    return found;
  }

  /** @returns The exit code, and what is left of its processes */
  async endAfter(action: () => void): Promise<{ code: number | null; orphans: number[] }> {
    const { children } = this;
    const exit = once(this.#child, 'close', { signal: AbortSignal.timeout(STOP_MS) });
    action();
    const [code] = (await exit) as [number | null]; // the arguments of 'close'
    return { code, orphans: children.filter(isAlive) };
  }
}

t.test('store dev up runs a whole cluster, and its data outlives it', async (t) => {
  const dir = join(tempFolder(t), 'dev');
  const first = await DevCluster.start(t, dir);
  t.equal(first.children.length, CHILDREN);
  const page = await fetch(first.dashboard, { signal: AbortSignal.timeout(5000) });
  t.equal(page.status, 200);
  t.match(await page.text(), /<html/);
  const content = Buffer.alloc(1024 ** 2, 'tried out ');
  const client = await NbdClient.connect(first.uri);
  t.equal(client.facts.bytes, 1024 ** 3, 'the image has 1 GiB');
  t.equal((await client.write(12_345, content)).error, 0);
  await client.disconnect();
  t.same(await first.endAfter(() => process.kill(first.pid, 'SIGINT')), { code: 0, orphans: [] });

  const second = await DevCluster.start(t, dir);
  const again = await NbdClient.connect(second.uri);
  t.ok((await again.read(12_345, content.length)).data.equals(content), 'the data is still there');
  await again.disconnect();
  const killed = second.child('file-store', 'disk2');
  t.same(await second.endAfter(() => process.kill(killed, 'SIGKILL')), { code: 1, orphans: [] });
  t.match(second.log, /^store: disk2 ended with a signal/m, 'it says who ended');
});

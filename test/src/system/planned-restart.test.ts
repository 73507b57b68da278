// 20 planned restarts under writing, reading and connecting clients: none of them notices anything but a pause.
import { join } from 'node:path';
import t from 'tap';
import { tempFolder } from '../host/temp-folder.js';
import { sleep } from '../host/wait-until.js';
import { NbdClient } from '../nbd-client/nbd-client.js';
import { ReplaceableServer } from '../server/replaceable-server.js';
import { runProgramWell } from '../server/store-programs.js';
import { BLOCK_BYTES, DeviceHistory } from '../tagged-writer/device-history.js';
import { SeededRandom, testSeed } from '../tagged-writer/seeded-random.js';
import { recoverDevice, TaggedWriter } from '../tagged-writer/tagged-writer.js';

t.setTimeout(600_000);

const RESTARTS = 20;
const BLOCKS = 8 * 1024;
const HEADERS = ['simple', 'structured', 'extended'] as const;

for (const listens of ['a Unix socket', 'TCP'] as const)
  t.test(`TRAP10: no client notices ${RESTARTS} planned restarts (${listens})`, async (t) => {
    const seed = testSeed();
    t.comment(`replay: STORE_SEED=${seed} node test/dist/system/planned-restart.test.js`);
    const random = new SeededRandom(seed);
    const folder = tempFolder(t);
    const dir = join(folder, 'data');
    for (const name of HEADERS)
      await runProgramWell('store-image', [
        ...['create', '--dir', dir, '--pool', 'testpool', name, '--size'],
        `${BLOCKS * BLOCK_BYTES}`,
      ]);
    const socket = join(folder, 'nbd.sock');
    const where = listens === 'TCP' ? ['--port', '0'] : ['--socket', socket];
    const server = await ReplaceableServer.start(t, {
      dir,
      args: ['--pool', 'testpool', ...where],
    });
    const base = /^nbd\S+/m.exec(server.log)?.[0] ?? '';
    const uriOf = (name: string): string => base.replace(/\/(?=$|\?)/, `/${name}`);

    const writers = await Promise.all(
      HEADERS.map(async (name) => {
        const history = new DeviceHistory(BLOCKS);
        const client = await NbdClient.connect(uriOf(name), name);
        const writer = new TaggedWriter({ history, random, depth: 8 });
        return { name, history, client, writer, running: writer.run(client, 'rarely') };
      }),
    );
    const idle = await NbdClient.connect(uriOf('simple'));
    const watch = new Watch(uriOf('simple'));
    const watching = [watch.read(), watch.connect()];

    for (let restart = 0; restart < RESTARTS; restart += 1) {
      await sleep(random.between(50, 500));
      await server.restart(restart % 2 === 0 ? 'SIGUSR2' : '--replace');
      if (writers.every(({ client }) => client.ended === null)) continue;
      return void t.fail(`a client was lost in restart ${restart + 1}\n${server.log}`);
    }
    await sleep(200);
    watch.stop();
    await Promise.all(watching);
    for (const { name, writer, client, history, running } of writers) {
      writer.stop();
      await running;
      t.equal(client.ended, null, `${name}: one connection all the time`);
      t.same(writer.errors, [], `${name}: no request failed`);
      t.same(writer.problems, [], `${name}: no read was wrong`);
      t.ok(writer.answers > RESTARTS * 20, `${name}: ${writer.answers} requests were answered`);
      t.same(await recoverDevice(client, history, 'process'), [], `${name}: nothing is lost`);
      await client.disconnect();
    }
    t.equal((await idle.read(0, 512)).error, 0, 'an idle client is still connected');
    await idle.disconnect();
    t.same(watch.failures, [], `${watch.connects} clients came and went without an error`);
    t.ok(watch.connects > RESTARTS, 'in every restart one at least');
    const pauses = watch.pauses.sort((a, b) => b - a).slice(0, RESTARTS);
    t.comment(`longest answers of a reader: ${pauses.map(Math.round).join(' ')} ms`);
    const complaints = server.log.split('\n').filter((line) => / (warn|error|fatal) /.test(line));
    t.same(complaints, [], 'nothing to complain about');
    await server.stop();
  });

/** Clients that do little, all the time. */
class Watch {
  readonly pauses: number[] = [];
  readonly failures: string[] = [];
  connects = 0;
  readonly #uri: string;
  #stopped = false;

  constructor(uri: string) {
    this.#uri = uri;
  }

  stop(): void {
    this.#stopped = true;
  }

  /** Reads, and notes how long the answers take. */
  async read(): Promise<void> {
    const client = await NbdClient.connect(this.#uri);
    while (!this.#stopped) {
      const start = performance.now();
      const { error } = await client.read(0, 4096);
      if (error !== 0) this.failures.push(`a read failed with ${error}`);
      this.pauses.push(performance.now() - start);
      await sleep(1);
    }
    await client.disconnect();
  }

  /** Connects, reads, says goodbye. */
  async connect(): Promise<void> {
    while (!this.#stopped)
      try {
        const client = await NbdClient.connect(this.#uri);
        const { error } = await client.read(0, 4096);
        if (error !== 0) this.failures.push(`a first read failed with ${error}`);
        await client.disconnect();
        this.connects += 1;
        await sleep(5);
      } catch (error) {
        this.failures.push(String(error));
        await sleep(50);
      }
  }
}

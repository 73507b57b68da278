/**
 * What the stories about copies have in common: a cluster of processes with a pool of small groups, an image in it, a
 * `store-nbd` in front, and a client that writes tagged sectors all the time. At the end everything has to be whole again,
 * on all copies, and nobody may have stumbled over a defect of ours.
 */
import { messageOf } from '@store/core';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Test } from 'tap';
import { waitUntil } from '../host/wait-until.js';
import { NbdClient } from '../nbd-client/nbd-client.js';
import { ProcessCluster, type ProcessClusterOptions } from '../server/process-cluster.js';
import { StoreServer, type StoreServerOptions } from '../server/store-server.js';
import { BLOCK_BYTES, DeviceHistory, type Crash } from '../tagged-writer/device-history.js';
import { SeededRandom, testSeed } from '../tagged-writer/seeded-random.js';
import { recoverDevice, TaggedWriter, type SyncHabit } from '../tagged-writer/tagged-writer.js';
import { compareCopies } from './compare-copies.js';

export interface ReplicaStoryOptions extends ProcessClusterOptions {
  /** Three unless told. */
  readonly daemons?: number;
  /** Of the image; some of eight objects and a bit unless told. */
  readonly blocks?: number;
  /** Requests in flight. */
  readonly depth?: number;
  readonly wrapper?: readonly string[];
}

export interface EndOptions {
  readonly errors?: 'none' | 'some';
  readonly without?: readonly number[];
}

const BLOCKS = 8 * 1024 + 77; // the image does not end with an object
const WRITES_MS = 30_000;
const HEALS_MS = 60_000;
/** What no log may say, whatever happens to a process. */
const DEFECTS = /invariant|assertion|defect|"level":60|\bfatal\b/i;

export class ReplicaStory {
  readonly t: Test;
  readonly cluster: ProcessCluster;
  readonly history: DeviceHistory;
  readonly writer: TaggedWriter;
  readonly random: SeededRandom;
  server: StoreServer;
  client: NbdClient;
  readonly #serverOptions: StoreServerOptions;
  #writing: Promise<void> | null = null;
  /** What servers logged that were killed, or did not start. */
  readonly #lostLogs: string[] = [];

  /** @param name - Of the test file, for the line that replays it. */
  static async begin(
    t: Test,
    name: string,
    options: ReplicaStoryOptions = {},
  ): Promise<ReplicaStory> {
    const seed = testSeed();
    t.comment(`replay: STORE_SEED=${seed} node test/dist/system/${name}.test.js`);
    const { daemons = 3, blocks = BLOCKS, pool = ['--groups', '16'] } = options;
    const cluster = await ProcessCluster.start(t, daemons, { ...options, pool });
    await cluster.healthy(HEALS_MS);
    const serverOptions = {
      image: 'vm1',
      socket: join(cluster.folder, 'nbd.sock'),
      createBytes: blocks * BLOCK_BYTES,
      args: cluster.flags,
      wrapper: options.wrapper ?? [],
    };
    const server = await StoreServer.start(t, serverOptions);
    const client = await NbdClient.connect(server.uri);
    const story = new ReplicaStory({
      ...{ t, cluster, server, serverOptions, client, seed },
      ...options,
      blocks,
    });
    const logs = process.env['STORE_LOGS'];
    if (logs !== undefined) t.teardown(() => story.keepLogs(logs));
    return story;
  }

  private constructor(parts: {
    readonly t: Test;
    readonly cluster: ProcessCluster;
    readonly server: StoreServer;
    readonly serverOptions: StoreServerOptions;
    readonly client: NbdClient;
    readonly seed: number;
    readonly blocks: number;
    readonly depth?: number;
  }) {
    this.t = parts.t;
    this.cluster = parts.cluster;
    this.server = parts.server;
    this.#serverOptions = parts.serverOptions;
    this.client = parts.client;
    this.random = new SeededRandom(parts.seed);
    this.history = new DeviceHistory(parts.blocks);
    const random = new SeededRandom(this.random.next32());
    this.writer = new TaggedWriter({ history: this.history, random, depth: parts.depth ?? 16 });
  }

  /** Lets the client write, and waits until it has for a while. */
  async writes(habit: SyncHabit = 'often', answers = 500): Promise<void> {
    this.#writing ??= this.writer.run(this.client, habit);
    await this.goesOn(answers);
  }

  /** Waits for more answers than there are. */
  async goesOn(answers = 500, limitMs = WRITES_MS): Promise<void> {
    const until = this.writer.answers + answers;
    await waitUntil('the client to get answers', limitMs, () => this.writer.answers >= until);
  }

  /** Everything that was sent is answered then. */
  async stopsWriting(): Promise<void> {
    this.writer.stop();
    await this.#writing;
    this.#writing = null;
  }

  /** `store-nbd` is killed, and with it what it would have sent again. */
  async losesServer(): Promise<void> {
    await this.server.kill9();
    this.#lostLogs.push(this.server.log);
    await this.#writing;
    this.#writing = null;
  }

  /**
   * Started as a supervisor would: until it runs. It may not, while the masters are dead or a group has no primary.
   * @param failed - Is told why it did not.
   */
  async serverAgain(attempts = 1, failed: (why: string) => void = () => undefined): Promise<void> {
    for (let attempt = 1; ; attempt += 1)
      try {
        this.server = await StoreServer.start(this.t, this.#serverOptions);
        this.client = await NbdClient.connect(this.server.uri);
        return;
      } catch (error) {
        this.#lostLogs.push(messageOf(error));
        if (attempt === attempts) throw error;
        failed(messageOf(error));
        if (this.server.running) await this.losesServer();
      }
  }

  /** Reads the whole device. */
  async isThere(crash: Crash = 'process'): Promise<void> {
    const { t, client, history } = this;
    t.same(await recoverDevice(client, history, crash), [], 'all is there that has to be');
  }

  /**
   * Everything heals, all is there, all copies are the same, and no log has a defect in it.
   * @param errors - Whether requests may have been refused.
   * @param without - Numbers of daemons that are out, and do not run.
   */
  async endsWell(options: EndOptions = {}): Promise<void> {
    const { errors = 'none', without = [] } = options;
    const { t, cluster, writer, server } = this;
    await this.stopsWriting();
    if (errors === 'none') t.same(writer.errors.slice(0, 5), [], 'nobody got an error');
    t.same(writer.problems.slice(0, 20), [], 'all reads were right');
    const out = await Promise.all(without.map((number) => cluster.idOf(number)));
    const ms = await cluster.healthy(HEALS_MS, out);
    await this.isThere();
    t.equal(await writer.flush(this.client), 0, 'a flush succeeds');
    await this.client.disconnect();
    await server.stop();
    await this.copiesAreEqual(without);
    t.comment(
      `${writer.answers} answers, ${writer.flushes} flushes; all copies there ${Math.round(ms)} ms after the end`,
    );
    this.hasNoDefects(without);
  }

  /** Stops the cluster and compares what its daemons have. */
  async copiesAreEqual(without: readonly number[] = []): Promise<void> {
    const { t, cluster } = this;
    const map = await cluster.stopTogether();
    const numbers = cluster.daemons.map((_, index) => index + 1);
    const running = numbers.filter((number) => !without.includes(number));
    const folders = running.map((number) => cluster.dataOf(number));
    const { objects, differences } = await compareCopies(map, folders);
    t.same(differences.slice(0, 20), [], `all copies of ${objects} objects are the same`);
    t.ok(objects > 1, 'and there are some');
  }

  /** The program that serves, and all that did before it. */
  get #serverLog(): string {
    return [...this.#lostLogs, this.server.log].join('\n');
  }

  /** Writes what all programs have logged into a folder. */
  keepLogs(folder: string): void {
    const { cluster } = this;
    mkdirSync(folder, { recursive: true });
    const keep = (name: string, { log }: { readonly log: string }): void =>
      writeFileSync(join(folder, `${name}.log`), log);
    keep('master', cluster.master);
    keep('store-nbd', { log: this.#serverLog });
    cluster.daemons.forEach((daemon, index) => keep(`daemon${index + 1}`, daemon));
  }

  /** @param without - Numbers of daemons whose disks have failed: they say so. */
  hasNoDefects(without: readonly number[] = []): void {
    const { cluster } = this;
    const daemons = cluster.daemons.filter((_, index) => !without.includes(index + 1));
    const logs = [cluster.master, ...daemons].map(({ log }) => log);
    const lines = [...logs, this.#serverLog].flatMap((log) => log.split('\n'));
    this.t.same(lines.filter((line) => DEFECTS.test(line)).slice(0, 10), [], 'no log has a defect');
  }
}

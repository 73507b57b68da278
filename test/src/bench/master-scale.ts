/**
 * How a master does at a thousand daemons: `make bench-master`. The master is the real program in a process of its own;
 * the daemons are simulated by their connections, except one, which serves a client that reads all the time.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import {
  ClusterStore,
  CONTROL,
  MAP_BYTES_MAX,
  MasterGuide,
  MasterLink,
  NO_ANSWER,
  ObjectRef,
  OBJECT_KIND,
  promised,
  realEnv,
  silentLog,
  type MasterAddress,
  type ObjectPool,
} from '@store/core';
import { residentBytes } from '../host/process-memory.js';

const DAEMONS = Number(process.env['STORE_BENCH_DAEMONS'] ?? 1000);
const POOLS = Number(process.env['STORE_BENCH_POOLS'] ?? 100);
const GROUPS = 128;
const CHANGES = 10;
const READ_BYTES = 4096;
const READS_AT_ONCE = 16;
const QUIET_MS = 5000;
const MIB: number = 1024 * 1024;

const env = realEnv(silentLog);
const folder = mkdtempSync(join(tmpdir(), 'master-scale-'));
const children: ChildProcess[] = [];

function die(error: unknown): never {
  throw error;
}

/** One of our programs. @returns the line that it announces itself with */
async function start(args: readonly string[]): Promise<{ line: string; pid: number }> {
  const program = fileURLToPath(new URL('../../../tools/bin/store.js', import.meta.url));
  const child = spawn(process.execPath, [program, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, STORE_LOG_FORMAT: 'text' },
  });
  children.push(child);
  const line = await new Promise<string>((resolve) =>
    createInterface({ input: child.stdout }).once('line', resolve),
  );
  return { line, pid: child.pid ?? 0 };
}

function addressOf(text: string): MasterAddress {
  const [host = '', port = ''] = text.split(':');
  return { host, port: Number(port) };
}

/** Daemons that only talk to the master. */
class SimulatedDaemons {
  readonly #links: MasterLink[] = [];
  /** How many have taken a map of at least this version, by version. */
  readonly #taken: number[] = [];
  #waiting: { version: number; resolve: () => void } | null = null;
  mapBytes = 0;

  async join(master: MasterAddress): Promise<void> {
    const joined: Promise<unknown>[] = [];
    for (let number = 0; number < DAEMONS; number += 1) {
      const link = this.#add(master, number);
      this.#links.push(link);
      joined.push(link.up(120_000));
    }
    await Promise.all(joined);
  }

  /** Resolves when every one of them has a map of this version or a later one. */
  whenAllHave(version: number): Promise<void> {
    return new Promise((resolve) => {
      this.#waiting = { version, resolve };
      this.#check();
    });
  }

  close(): void {
    for (const link of this.#links) link.close();
  }

  #add(master: MasterAddress, number: number): MasterLink {
    const took = (version: number, bytes: number): void => {
      this.#taken[number] = version;
      this.mapBytes = bytes;
      this.#check();
    };
    return new MasterLink({
      env,
      masters: [master],
      entrance: 'peer',
      tls: null,
      name: 'simulated',
      key: null,
      payloadMax: MAP_BYTES_MAX,
      events: {
        met: async (channel) => {
          await channel.ask(
            CONTROL.register,
            {
              clusterId: '',
              diskId: (number + 1).toString(16).padStart(32, '0'),
              startId: (number + 1).toString(16).padStart(32, 'f'),
              address: `127.0.0.1:${10_000 + number}`,
              peerAddress: '',
              host: `host${Math.floor(number / 10)}`,
              rack: `rack${Math.floor(number / 100)}`,
              capacityBytes: 1024 * 1024 * MIB,
              lostUnflushed: false,
              mapVersion: 0,
            },
            { deadlineMs: 60_000 },
          );
          await channel.ask(CONTROL.secrets, {}, { deadlineMs: 60_000 });
          const { fields, payload } = await channel.ask(
            CONTROL.map,
            { after: 0 },
            { deadlineMs: 60_000 },
          );
          took(Number(fields['version']), payload.length);
        },
        asked: (op, { fields, payload }) => {
          if (op === CONTROL.map) took(Number(fields['version']), payload.length);
          return Promise.resolve(NO_ANSWER);
        },
        lost: () => undefined,
        defect: die,
      },
    });
  }

  #check(): void {
    const waiting = this.#waiting;
    if (waiting === null || this.#taken.length < DAEMONS) return;
    for (const version of this.#taken) if (version < waiting.version) return;
    this.#waiting = null;
    waiting.resolve();
  }
}

/** Reads one block after the other, many at once. */
class Reader {
  count = 0;
  #isStopped = false;

  constructor(pool: ObjectPool, ref: ObjectRef) {
    const again = (target: Buffer): void => {
      if (this.#isStopped) return;
      pool.read(ref, 0, target, (error) => {
        if (error !== null) throw error;
        this.count += 1;
        if (this.count % READS_AT_ONCE === 0) setImmediate(again, target);
        else again(target);
      });
    };
    for (let index = 0; index < READS_AT_ONCE; index += 1) again(Buffer.alloc(READ_BYTES));
  }

  async perSecond(during: () => Promise<void>): Promise<number> {
    const [start, before] = [env.clock.now(), this.count];
    await during();
    return ((this.count - before) * 1000) / (env.clock.now() - start);
  }

  stop(): void {
    this.#isStopped = true;
  }
}

function median(numbers: readonly number[]): number {
  return numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? 0;
}

function say(what: string, value: string): void {
  process.stdout.write(`${what.padEnd(58)} ${value}\n`);
}

async function measure(): Promise<void> {
  const anywhere = '127.0.0.1:0';
  const master = await start([
    ...['master', '--json', '--state-dir', join(folder, 'master')],
    ...['--peer-address', anywhere, '--listen-address', anywhere],
  ]);
  const places = JSON.parse(master.line) as { peerAddress: string; listenAddress: string };
  await start([
    ...['file-store', '--json', '--dir', join(folder, 'disk')],
    ...['--master', places.peerAddress, '--listen-address', anywhere],
  ]);
  const guideOptions = {
    env,
    masters: [addressOf(places.listenAddress)],
    tls: null,
    key: null,
    name: 'bench',
    deadlineMs: 60_000,
    defect: die,
  };
  const guide = await MasterGuide.open(guideOptions);
  await guide.administer('pool create', { name: 'read', groups: 1, dryRun: false });
  const store = new ClusterStore({
    env,
    guide: await MasterGuide.open(guideOptions),
    name: 'bench',
    tls: null,
    deadlineMs: 60_000,
    datagramBytes: 0,
  });
  const pool = await store.openPool('read', { create: false });
  const ref = new ObjectRef(OBJECT_KIND.imageData, 'layer_0', 'family_0');
  await promised((done) => pool.write(ref, 0, [Buffer.alloc(READ_BYTES, 1)], 0, done));
  say(
    'memory of a master that has nothing, RSS',
    `${Math.round(residentBytes(master.pid) / MIB)} MiB`,
  );

  const daemons = new SimulatedDaemons();
  let begun = env.clock.now();
  await daemons.join(addressOf(places.peerAddress));
  say(`${DAEMONS} daemons register at once`, `${Math.round(env.clock.now() - begun)} ms`);
  begun = env.clock.now();
  for (let number = 0; number < POOLS; number += 1)
    await guide.administer('pool create', { name: `pool${number}`, groups: GROUPS, dryRun: false });
  say(
    `${POOLS} pools of ${GROUPS} groups are made, one after the other`,
    `${Math.round(env.clock.now() - begun)} ms`,
  );
  await daemons.whenAllHave(guide.view.map.version);
  say('the encoded map', `${daemons.mapBytes} bytes`);

  const reader = new Reader(pool, ref);
  const quiet = await reader.perSecond(() => env.timers.sleep(QUIET_MS));
  const [decided, pushed]: [number[], number[]] = [[], []];
  const busy = await reader.perSecond(async () => {
    for (let change = 0; change < CHANGES; change += 1) {
      const at = env.clock.now();
      await guide.administer('daemon set', { daemon: 2, weight: 1000 + change, dryRun: false });
      decided.push(env.clock.now() - at);
      await guide.refresh(guide.view.map.version);
      await daemons.whenAllHave(guide.view.map.version);
      pushed.push(env.clock.now() - at);
    }
  });
  reader.stop();
  say('a change is planned, decided and durable (median)', `${Math.round(median(decided))} ms`);
  say(
    'and every daemon has the new map (median, from the start)',
    `${Math.round(median(pushed))} ms`,
  );
  say('reads of 4 KiB per second by one client, nothing else', Math.round(quiet).toString());
  say('the same, while the map changes without a pause', Math.round(busy).toString());
  say('memory of the master, RSS', `${Math.round(residentBytes(master.pid) / MIB)} MiB`);
  daemons.close();
  await store.close();
  await guide.close();
}

try {
  await measure();
} finally {
  for (const child of children.toReversed()) {
    const ended = new Promise((resolve) => child.once('close', resolve));
    child.kill('SIGTERM');
    await ended;
  }
  rmSync(folder, { recursive: true, force: true });
}

/**
 * `store dev up`: a whole cluster on this machine, in one terminal: master, storage daemons, NBD gateway and dashboard.
 * Each is the real program, in a process of its own. Ctrl-C stops all of them, and the data stays.
 */
import { join } from 'node:path';
import { numberSetting, StoreError, switchSetting, textSetting } from '@store/core';
import type { Command } from 'commander';
import { handles, type Context } from '../program.js';
import { untilStopped } from '../until-stopped.js';
import { ChildProgram, type ProgramOutput } from './child-program.js';
import { PaintedOutput } from './painted-output.js';

const DAEMONS_MAX = 32;
const SETTING = {
  dir: textSetting('dev-dir', './store-dev'),
  daemons: numberSetting('daemons', { min: 1, max: DAEMONS_MAX, fallback: 3 }),
  freePorts: switchSetting('free-ports'),
} as const;

const POOL = 'dev';
const IMAGE = 'vm1';
const IMAGE_SIZE = '1G';
const PORTS = { peer: 4000, listen: 4010, http: 4080, daemon: 4148, nbd: 10_809 } as const;

/** Adds the commands to `program`. */
export function addDevCommand(program: Command): void {
  const dev = program.command('dev').description('a cluster on this machine, to try things out');
  const up = dev
    .command('up')
    .description('start master, storage daemons, NBD gateway and dashboard; Ctrl-C stops them all')
    .option('--dev-dir <folder>', 'where all of it keeps its data (default: ./store-dev)')
    .option('--daemons <number>', 'how many storage daemons (default: 3)')
    .option('--free-ports', 'use whatever ports are free, to run beside another one')
    .addHelpText('after', '\nExample:\n  store dev up --daemons 3');
  handles(up, (context) => runAll(context));
}

async function runAll(context: Context): Promise<void> {
  const dir = context.get(SETTING.dir);
  const count = context.get(SETTING.daemons);
  const isFree = context.get(SETTING.freePorts);
  const at = (port: number): string => `127.0.0.1:${isFree ? 0 : port}`;
  const family = new Family(context);
  try {
    const master = await family.start('master', 'store', [
      ...['master', '--json', '--state-dir', join(dir, 'master')],
      ...['--peer-address', at(PORTS.peer), '--listen-address', at(PORTS.listen)],
      ...['--http', at(PORTS.http)],
    ]);
    const places = JSON.parse(master) as Record<string, string>;
    const [peer = '', listen = '', http = ''] = [
      places['peerAddress'],
      places['listenAddress'],
      places['httpAddress'],
    ];
    for (let number = 1; number <= count; number += 1)
      await family.start(`disk${number}`, 'store', [
        ...['file-store', '--json', '--dir', join(dir, `disk${number}`), '--master', peer],
        ...['--listen-address', at(PORTS.daemon + number - 1), '--host', `host${number}`],
      ]);
    const reach = ['--master', listen, '--pool', POOL];
    const nbd = await family.start('nbd', 'store-nbd', [
      ...['--json', ...reach, '--image', IMAGE, '--create', IMAGE_SIZE],
      ...['--port', String(isFree ? 0 : PORTS.nbd)],
    ]);
    context.print(welcome({ listen, http, nbd, dir, count }));
    await family.over(context.stop);
  } finally {
    await family.stop();
  }
}

/** The processes that run; all of them end together. */
class Family {
  readonly #context: Context;
  readonly #output: PaintedOutput;
  readonly #children: ChildProgram[] = [];
  /** Told when one ends that nobody told to. */
  #failed: (error: StoreError) => void = () => undefined;
  readonly #failure: Promise<never>;

  constructor(context: Context) {
    this.#context = context;
    this.#output = new PaintedOutput(process.stderr);
    this.#failure = new Promise((_, reject) => {
      this.#failed = reject;
    });
    this.#failure.catch(() => undefined); // whoever waits hears of it
  }

  /** Starts a program and waits until it serves. @returns The line that it announces itself with */
  async start(name: string, program: string, args: readonly string[]): Promise<string> {
    if (this.#context.stop.aborted) throw new StoreError('E_CLOSED', 'Stopped while starting');
    const output: ProgramOutput = {
      error: (line) => this.#output.line(name, line),
    };
    const child = new ChildProgram(name, program, args, output);
    this.#children.push(child);
    void child.ended.then((code) => {
      this.#failed(
        new StoreError(
          'E_SYSTEM',
          `${name} ended with ${code ?? 'a signal'}; what it said stands above`,
        ),
      );
    });
    return Promise.race([child.announced, this.#failure, this.#stopped()]);
  }

  /** Resolves when the user wants to stop. @throws StoreError if one of them ended by itself */
  async over(stop: AbortSignal): Promise<void> {
    await Promise.race([untilStopped(stop), this.#failure]);
  }

  /** The last one first: who uses another ends before it. */
  async stop(): Promise<void> {
    for (const child of this.#children.toReversed()) await child.stop();
  }

  #stopped(): Promise<never> {
    return new Promise((_, reject) => {
      this.#context.stop.addEventListener(
        'abort',
        () => reject(new StoreError('E_CLOSED', 'Stopped while starting')),
        { once: true },
      );
    });
  }
}

function welcome(facts: {
  listen: string;
  http: string;
  nbd: string;
  dir: string;
  count: number;
}): string {
  const { listen, http, nbd, dir, count } = facts;
  const { uri = nbd } = parseAnnouncement(nbd);
  return `
A cluster of ${count} daemons runs; its data is in ${dir}.

  dashboard    ${http}
  image        ${uri}   (pool ${POOL}, image ${IMAGE}, ${IMAGE_SIZE})
  status       store status --master ${listen}
  more images  store-image create vm2 --size 10G --pool ${POOL} --master ${listen}

Ctrl-C stops all of it.
`;
}

function parseAnnouncement(line: string): { uri?: string } {
  try {
    return JSON.parse(line) as { uri?: string };
  } catch {
    return {};
  }
}

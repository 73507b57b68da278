/**
 * Does to a cluster of processes what happens to real ones, at random times that follow from a seed: kills, hangs, networks that
 * are cut between some, disks that fill up. Seldom more than two things at a time, so that something is left to go wrong.
 */
import { writeFileSync, rmSync, statfsSync } from 'node:fs';
import { join } from 'node:path';
import { sleep } from '../host/wait-until.js';
import type { ProcessCluster } from '../server/process-cluster.js';
import type { RestartableProgram } from '../server/restartable-program.js';
import type { SeededRandom } from '../tagged-writer/seeded-random.js';
import type { CutNetwork } from './cut-network.js';

export interface ChaosMonkeyOptions {
  readonly cluster: ProcessCluster;
  readonly network: CutNetwork;
  readonly random: SeededRandom;
  /** Mount points of small file systems with data of daemons. */
  readonly smallDisks: readonly string[];
  /** Is told what it does. */
  readonly say: (what: string) => void;
}

const KINDS = ['kill', 'kill', 'hang', 'cut', 'isolate', 'fill', 'master'] as const;
const AT_A_TIME_MAX = 2;
const FILLER = 'filler';
const FILL_STEP = 8 * 1024 * 1024;
/** Below that a daemon takes nothing new. */
const FREE_MIN = 64 * 1024 * 1024;

export class ChaosMonkey {
  readonly counts = new Map<string, number>();
  readonly #options: ChaosMonkeyOptions;
  /** Numbers of daemons that something is done to, 0 for the master. */
  readonly #busy = new Set<number>();
  readonly #under = new Set<Promise<void>>();

  constructor(options: ChaosMonkeyOptions) {
    this.#options = options;
  }

  /** Goes on for so long, then undoes what it did. */
  async rage(ms: number): Promise<void> {
    const { random, network } = this.#options;
    const endMs = performance.now() + ms;
    while (performance.now() < endMs) {
      if (this.#under.size < AT_A_TIME_MAX) {
        const work = this.#something().finally(() => this.#under.delete(work));
        this.#under.add(work);
      }
      await sleep(random.between(200, 2500));
    }
    await Promise.all(this.#under);
    await network.heal();
  }

  async #something(): Promise<void> {
    const { random, cluster } = this.#options;
    const kind = random.pick(KINDS);
    const number = kind === 'master' ? 0 : 1 + random.below(cluster.daemons.length);
    const lastsMs = random.between(100, 7000);
    const other = 1 + random.below(cluster.daemons.length);
    if (this.#busy.has(number)) return;
    this.#busy.add(number);
    this.counts.set(kind, (this.counts.get(kind) ?? 0) + 1);
    this.#options.say(`${kind} ${number} for ${lastsMs} ms`);
    const program: RestartableProgram = number === 0 ? cluster.master : cluster.daemon(number);
    try {
      if (kind === 'kill' || kind === 'master') await kill(program, lastsMs);
      else if (kind === 'hang') await hang(program, lastsMs);
      else if (kind === 'fill') await this.#fill(lastsMs);
      else await this.#cut(number, kind === 'cut' ? [other] : this.#everybody(), lastsMs);
    } finally {
      this.#busy.delete(number);
    }
  }

  #everybody(): number[] {
    return [0, ...this.#options.cluster.daemons.map((_, index) => index + 1)];
  }

  async #cut(number: number, others: readonly number[], lastsMs: number): Promise<void> {
    const { network, random } = this.#options;
    const isOneWay = random.chance(30);
    for (const other of others)
      if (other !== number) {
        await network.cut(number, other);
        if (!isOneWay) await network.cut(other, number);
      }
    await sleep(lastsMs);
    await network.heal(); // of all cuts there are
  }

  async #fill(lastsMs: number): Promise<void> {
    const { smallDisks, random } = this.#options;
    if (smallDisks.length === 0) return;
    const filler = join(random.pick(smallDisks), FILLER);
    try {
      const { bavail, bsize } = statfsSync(join(filler, '..'));
      const bytes = Math.max(0, bavail * bsize - FREE_MIN);
      for (let at = 0; at < bytes; at += FILL_STEP)
        writeFileSync(filler, Buffer.alloc(Math.min(FILL_STEP, bytes - at), 1), { flag: 'a' });
      await sleep(lastsMs);
    } finally {
      rmSync(filler, { force: true });
    }
  }
}

async function kill(program: RestartableProgram, lastsMs: number): Promise<void> {
  await program.kill9();
  await sleep(lastsMs);
  await program.startAgain();
}

async function hang(program: RestartableProgram, lastsMs: number): Promise<void> {
  program.pause();
  await sleep(lastsMs);
  program.resume();
}

/**
 * A network of the kernel's own between programs on this machine, which can be cut between any two of them, in one direction
 * or both: what is sent just disappears. Each program lives in a network namespace, all of them around a router in another
 * one, to which this process has a way as well. Needs root.
 */
import { run } from '../host/command.js';
import type { HasTeardown } from '../host/temp-folder.js';

const STEP_MS = 20_000;
/** Of the second byte of addresses: several tests may run at a time. */
const NETS = 200;

export class CutNetwork {
  readonly #name: string;
  readonly #net: string;
  readonly #cuts = new Set<string>();
  /** The last change of the rules. */
  #rules: Promise<unknown> = Promise.resolve();

  /** @param places - Where programs can run: 0 to so many - 1. */
  static async build(t: HasTeardown, places: number): Promise<CutNetwork> {
    const network = new CutNetwork();
    t.teardown(() => network.#remove(places));
    await network.#build(places);
    return network;
  }

  private constructor() {
    this.#name = `st${process.pid}`;
    this.#net = `10.${20 + (process.pid % NETS)}`;
  }

  /** The address of programs at a place. */
  hostOf(place: number): string {
    return `${this.#net}.${place + 1}.2`;
  }

  /** Starts a program at a place. */
  wrapperOf(place: number): readonly string[] {
    return inside(this.#nameOf(place));
  }

  /** From now on nothing that one sends gets to the other. */
  async cut(source: number, target: number): Promise<void> {
    const key = `${source} ${target}`;
    if (this.#cuts.has(key)) return;
    this.#cuts.add(key);
    await this.#rule('add', key);
  }

  async heal(): Promise<void> {
    const keys = [...this.#cuts];
    this.#cuts.clear();
    await Promise.all(keys.map((key) => this.#rule('del', key)));
  }

  /** One after the other: who heals may come while somebody else's cut is being made. */
  #rule(what: 'add' | 'del', key: string): Promise<unknown> {
    const [from = '', to = ''] = key.split(' ').map((place) => this.hostOf(Number(place)));
    this.#rules = this.#rules.then(() =>
      this.#ip('-n', this.#name, 'rule', what, 'from', from, 'to', to, 'blackhole'),
    );
    return this.#rules;
  }

  #nameOf(place: number): string {
    return `${this.#name}x${place}`;
  }

  #ip(...args: string[]): Promise<string> {
    return run('ip', args, { limitMs: STEP_MS });
  }

  async #build(places: number): Promise<void> {
    const router = this.#name;
    await this.#ip('netns', 'add', router);
    const [enter = '', ...into] = inside(router);
    await run(enter, [...into, 'sysctl', '-q', '-w', 'net.ipv4.ip_forward=1']);
    const up = ['link', 'set', 'up', 'dev'];
    // The way of this process.
    await this.#ip('link', 'add', router, 'type', 'veth', 'peer', 'name', 'out', 'netns', router);
    await this.#ip('addr', 'add', `${this.#net}.0.1/24`, 'dev', router);
    await this.#ip(...up, router);
    await this.#ip('-n', router, 'addr', 'add', `${this.#net}.0.2/24`, 'dev', 'out');
    await this.#ip('-n', router, ...up, 'out');
    await this.#ip('route', 'add', `${this.#net}.0.0/16`, 'via', `${this.#net}.0.2`);
    for (let place = 0; place < places; place += 1) {
      const name = this.#nameOf(place);
      const gate = `${this.#net}.${place + 1}.1`;
      await this.#ip('netns', 'add', name);
      await this.#ip(
        ...['-n', router, 'link', 'add', `v${place}`, 'type', 'veth'],
        ...['peer', 'name', 'eth0', 'netns', name],
      );
      await this.#ip('-n', router, 'addr', 'add', `${gate}/24`, 'dev', `v${place}`);
      await this.#ip('-n', router, ...up, `v${place}`);
      await this.#ip('-n', name, 'addr', 'add', `${this.hostOf(place)}/24`, 'dev', 'eth0');
      await this.#ip('-n', name, ...up, 'lo');
      await this.#ip('-n', name, ...up, 'eth0');
      await this.#ip('-n', name, 'route', 'add', 'default', 'via', gate);
    }
  }

  async #remove(places: number): Promise<void> {
    const names = Array.from({ length: places }, (_, place) => this.#nameOf(place));
    for (const name of [...names, this.#name])
      await run('ip', ['netns', 'del', name], { codes: [0, 1], limitMs: STEP_MS });
    // Goes with its other end, but not at once.
    await run('ip', ['link', 'del', this.#name], { codes: [0, 1], limitMs: STEP_MS });
  }
}

/**
 * What runs a command in a network of its own, and in nothing else: `ip netns exec` would give it a copy of all mounts, which
 * keeps a filesystem alive that somebody else has unmounted.
 */
function inside(name: string): string[] {
  return ['nsenter', `--net=/run/netns/${name}`];
}

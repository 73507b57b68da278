/** etcd's own users and what they may do, by its JSON gateway as `etcdctl` does it by gRPC. */
import type { EtcdUser } from '../state/etcd-gateway.js';
import { base64 } from '../state/etcd-json.js';
import { endOfPrefix } from '../state/etcd-watch.js';
import type { EtcdCluster } from './etcd-cluster.js';

export const ROOT: EtcdUser = { name: 'root', password: 'of a test' };

export class EtcdUsers {
  readonly #cluster: EtcdCluster;
  #isEnabled = false;

  constructor(cluster: EtcdCluster) {
    this.#cluster = cluster;
  }

  /** A user with a role of the same name, which may nothing yet. */
  async add(user: EtcdUser): Promise<void> {
    await this.#ask('user/add', user);
    await this.#ask('role/add', { name: user.name });
    await this.#ask('user/grant', { user: user.name, role: user.name });
  }

  /** From now on everybody needs a user. */
  async enable(): Promise<void> {
    await this.#ask('user/add', ROOT);
    await this.#ask('user/grant', { user: ROOT.name, role: ROOT.name });
    await this.#ask('enable', {});
    this.#isEnabled = true;
  }

  /** Lets a user read and write all keys that begin with `prefix`. */
  async grant({ name }: EtcdUser, prefix: string): Promise<void> {
    const perm = { permType: 'READWRITE', ...rangeOf(prefix) };
    await this.#ask('role/grant', { name, perm });
  }

  async revoke({ name }: EtcdUser, prefix: string): Promise<void> {
    await this.#ask('role/revoke', { role: name, ...rangeOf(prefix) });
  }

  async #ask(action: string, body: object): Promise<void> {
    const user = this.#isEnabled ? ROOT : undefined;
    await this.#cluster.ask(this.#cluster.member(0).endpoint, `/v3/auth/${action}`, body, { user });
  }
}

function rangeOf(prefix: string): { key: string; range_end: string } {
  return { key: base64(prefix), range_end: base64(endOfPrefix(prefix)) };
}

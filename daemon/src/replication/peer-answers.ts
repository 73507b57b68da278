/** Answers what the primary of a group asks about this daemon's copy of it. */
import type { ByteParts } from '@store/core';
import type { Change } from './change.js';
import type { StartOf } from './group-host.js';
import type { AskBlocks, AskDigest, AskInventory, AskVerify } from './peer-message.js';
import type { ReplicaNode } from './replica-node.js';
import type { ReplicaPool } from './replica-pool.js';

type Asked = AskInventory | AskDigest | AskBlocks | AskVerify;

export class PeerAnswers {
  readonly #node: ReplicaNode;

  constructor(node: ReplicaNode) {
    this.#node = node;
  }

  /** A question of another epoch, or of somebody else than the primary, is not answered: it is asked again. */
  asked(from: StartOf, message: Asked): void {
    const group = this.#node.group(message);
    const first = group?.map?.members[0];
    const store = this.#node.storeOf(message.pool);
    if (group === undefined || store === null) return;
    if (message.epoch > group.epoch) this.#node.wantMap(from.daemon);
    const isPrimary = first?.daemon === from.daemon && first.inSync === from.startId;
    if (message.epoch !== group.epoch || !isPrimary || !group.isMember) return;
    if (this.#node.leftovers.isErasing(message.pool, message.group)) return;
    this.#answer(from.daemon, message, store);
  }

  #answer(to: number, message: Asked, store: ReplicaPool): void {
    const { pool, group, epoch, id } = message;
    const base = { pool, group, epoch, id };
    switch (message.type) {
      case 'askInventory':
        store.inventory(message.range, message.after, message.limit, (error, page) => {
          if (error === null && page !== undefined)
            this.#node.send(to, { type: 'inventory', ...base, ...page });
        });
        return;
      case 'askDigest':
        store.digest(message.object, (error, digest) => {
          if (error === null && digest !== undefined)
            this.#node.send(to, { type: 'digest', ...base, digest });
        });
        return;
      case 'askVerify':
        store.verify(message.object, (error, bad) => {
          if (error === null && bad !== undefined)
            this.#node.send(to, { type: 'verified', ...base, bad });
        });
        return;
      case 'askBlocks':
        this.#sendBlocks(to, message, store);
        return;
    }
  }

  #sendBlocks(to: number, { object, first, count, ...rest }: AskBlocks, store: ReplicaPool): void {
    const { pool, group, epoch, id } = rest;
    let found: Extract<Change, { op: 'write' }> | null = null;
    let runs = 0;
    store.present(
      object,
      first,
      first + count - 1,
      (change) => {
        runs += 1;
        if (change.op === 'write') found = change;
      },
      (error) => {
        const isWhole = error === null && runs === 1 && found !== null && found.first === first;
        const good = isWhole ? found : null;
        const blocks: ByteParts | null = good?.blocks ?? null;
        const checks = good?.checks ?? new Uint32Array();
        this.#node.send(to, { type: 'blocks', pool, group, epoch, id, blocks, checks });
      },
    );
  }
}

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { realEnv, silentLog, type DaemonRegistration } from '@store/core';
import { codeOf } from '@store/core/testing';
import t from 'tap';
import type { Leadership } from '../state/election.js';
import { EmbeddedState } from '../state/embedded-state.js';
import { ClusterLeader } from './cluster-leader.js';
import { newCluster } from './cluster-state.js';
import { registerDaemon } from './decide-daemons.js';

const env = realEnv(silentLog);

function registration(diskId: string, rack: string): DaemonRegistration {
  return {
    clusterId: '',
    diskId: diskId.repeat(32),
    startId: '1'.repeat(32),
    address: '127.0.0.1:4148',
    peerAddress: '',
    host: 'host',
    rack,
    capacityBytes: 2 ** 30,
    lostUnflushed: false,
    mapVersion: 0,
  };
}

await t.test('a decision that cannot be written down does not take others with it', async (t) => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'leader-'));
  t.teardown(() => fs.rmSync(folder, { recursive: true, force: true }));
  const store = await EmbeddedState.open(env, folder, { create: true });
  const { revision } = await store.commit({
    conditions: [],
    changes: [{ key: 'leader', value: Buffer.from('me') }],
  });
  const leadership: Leadership = {
    id: 'me',
    isLeader: () => true,
    refused: () => undefined,
    guard: () => ({ key: 'leader', revision }),
  };
  const begin = () => ({ state: newCluster('0'.repeat(32), 1), undo: () => undefined });
  const changed = () => undefined;
  const leader = await ClusterLeader.take({ env, store, leadership, begin, changed });
  const register = (diskId: string, rack: string) =>
    leader.decide((state) => {
      const { state: next, daemon } = registerDaemon(state, registration(diskId, rack), 1);
      return { state: next, result: daemon.id };
    });
  await register('a', 'rack');
  // The first is decided alone, the others wait meanwhile and are one batch.
  const codes = await Promise.all([
    codeOf(register('b', 'rack')),
    codeOf(register('c', 'rack')),
    codeOf(register('d', 'two\nlines')),
    codeOf(register('e', 'rack')),
  ]);
  t.same(codes, [null, null, 'E_FORMAT', null]);
  const disks = leader.state.map.daemons.map(({ diskId }) => diskId.charAt(0));
  t.same(disks, ['a', 'b', 'c', 'e']);
  await store.close();
});

/** What a client may do follows its record at once, on connections that are open as well. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { ClientKey, MasterGuide, realEnv, silentLog } from '@store/core';
import { codeOf } from '@store/core/testing';
import t, { type Test } from 'tap';
import { createClient } from '../cluster/decide-clients.js';
import { newCluster } from '../cluster/cluster-state.js';
import { EmbeddedState } from '../state/embedded-state.js';
import { Master } from './master.js';

const env = realEnv(silentLog);
const defect = (error: unknown): never => {
  throw error;
};

/** A master, and how somebody with a key, or with none, gets to it. */
async function served(
  t: Test,
): Promise<{ admin: ClientKey; meet: (key: ClientKey | null) => Promise<MasterGuide> }> {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'master-'));
  const store = await EmbeddedState.open(env, folder, { create: true });
  const rights = { isAdmin: true, rights: {} };
  const begun = createClient(newCluster('0'.repeat(32), 1), 'admin', rights, {
    random: env.random,
    now: 1,
  });
  const master = new Master({
    ...{ env, store, listenTls: null, peerTls: null, insecure: false, ttlMs: 3000, defect },
    begin: () => ({ state: begun.state, undo: () => undefined }),
  });
  t.teardown(async () => {
    await master.close();
    await store.close();
    fs.rmSync(folder, { recursive: true, force: true });
  });
  const bound = await master.listen({ host: '127.0.0.1', port: 0 }, 'listen');
  if (!('host' in bound)) throw new Error('it listens on TCP');
  const listen = `${bound.host}:${bound.port}`;
  master.stand({ peer: listen, listen, http: '' });
  const meet = async (key: ClientKey | null): Promise<MasterGuide> => {
    const options = { env, masters: [bound], tls: null, key, name: 'test', deadlineMs: 10_000 };
    const guide = await MasterGuide.open({ ...options, defect });
    t.teardown(() => guide.close());
    return guide;
  };
  return { admin: begun.key, meet };
}

async function made(guide: MasterGuide, name: string, isAdmin: boolean): Promise<ClientKey> {
  const text = await guide.administer('client create', { name, isAdmin, rights: {} });
  return ClientKey.parse(name, String(text));
}

await t.test('who is an administrator no more changes nothing on an open connection', async (t) => {
  const { admin, meet } = await served(t);
  const first = await meet(admin);
  const second = await meet(await made(first, 'second', true));
  await made(second, 'third', false);
  await first.administer('client set', { name: 'second', isAdmin: false, rights: {} });
  t.equal(await codeOf(made(second, 'fourth', false)), 'E_DENIED');
  t.match(await second.administer('status', {}, false), { version: 1 }, 'it may look');
  await first.administer('client set', { name: 'second', isAdmin: true, rights: {} });
  await made(second, 'fourth', false);
});

await t.test(
  'who changes its own key gets the new one, and is let in with that alone',
  async (t) => {
    const { admin, meet } = await served(t);
    const guide = await meet(admin);
    const text = await guide.administer('client rotate', { name: 'admin' });
    t.not(await codeOf(made(guide, 'late', false)), null, 'the old connection is over');
    t.equal(await codeOf(meet(admin)), 'E_DENIED');
    const renewed = await meet(ClientKey.parse('new', String(text)));
    const clients = await renewed.administer('client ls', {}, false);
    t.match(clients, [{ name: 'admin', rotated: /^\d{4}-/ }]);
    t.match(clients, { length: 1 }, 'and nothing came of the late question');
  },
);

import { encodeMap, MasterGuide, type MasterAddress } from '@store/core';
import t from 'tap';
import { FakeMaster } from './fake-master.js';
import { codeOf, liveEnv } from './live-cluster.js';

const CLUSTER_ID = 'c'.repeat(32);
const HOST = '127.0.0.1';

t.test('a change is in doubt when its answer is lost, and only if it was sent', async (t) => {
  const nothing = { daemons: [], pools: [], blockedClients: [], blockedTickets: [] };
  const fake = await FakeMaster.start(
    t,
    { host: HOST, port: 0 },
    {
      clusterId: CLUSTER_ID,
      daemonId: 1,
      map: encodeMap({ clusterId: CLUSTER_ID, version: 1, ...nothing }),
      secrets: Buffer.from('{}'),
    },
  );
  const guide = await MasterGuide.open({
    ...{ env: liveEnv, tls: null, key: null, name: 'test', deadlineMs: 5000 },
    masters: [fake.address as MasterAddress], // it listens on a host
    defect: (error) => {
      throw error;
    },
  });
  t.teardown(() => guide.close());
  fake.lostAnswers = 3;
  for (let change = 1; change <= 3; change += 1) {
    t.equal(await codeOf(guide.administer('change', {})), 'E_IN_DOUBT');
    t.equal(fake.commandCount, change, 'it was asked, once');
  }
  t.equal(await codeOf(guide.administer('change', {})), null);
  t.equal(fake.commandCount, 4);
  fake.lostAnswers = 6;
  t.equal(
    await codeOf(guide.administer('look', {}, false)),
    null,
    'what changes nothing is asked again',
  );
  t.equal(fake.commandCount, 7);
});

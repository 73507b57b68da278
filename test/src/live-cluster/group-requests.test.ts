/** What daemons ask a master about groups, over the wire. */
import {
  CONTROL,
  encodeGroupRequest,
  MAP_BYTES_MAX,
  MasterLink,
  type GroupRequest,
  type MapGroup,
} from '@store/core';
import t, { type Test } from 'tap';
import { codeOf, LiveCluster, liveEnv, until } from './live-cluster.js';

const die = (error: unknown): never => {
  throw error;
};

/** A daemon that only registers. */
async function registered(
  t: Test,
  cluster: LiveCluster,
  number: number,
): Promise<{
  readonly link: MasterLink;
  readonly startId: string;
  ask(
    request: Omit<GroupRequest, 'startId' | 'pool' | 'group'>,
    startId?: string,
  ): Promise<unknown>;
}> {
  const startId = liveEnv.random.bytes(16).toString('hex');
  let isMet = false;
  const link = new MasterLink({
    env: liveEnv,
    masters: cluster.masters.map(({ peer }) => peer),
    entrance: 'peer',
    tls: null,
    name: `daemon ${number}`,
    key: null,
    payloadMax: MAP_BYTES_MAX,
    events: {
      met: async (channel) => {
        await channel.ask(CONTROL.register, {
          clusterId: '',
          diskId: number.toString(16).padStart(32, '0'),
          startId,
          address: `127.0.0.1:${4000 + number}`,
          peerAddress: '',
          host: `host${number}`,
          rack: 'r',
          capacityBytes: 2 ** 30,
          lostUnflushed: false,
          mapVersion: 0,
        });
        isMet = true;
      },
      asked: () => Promise.resolve({ fields: {}, payload: Buffer.alloc(0) }),
      lost: () => undefined,
      defect: die,
    },
  });
  t.teardown(() => link.close());
  await until('the daemon has registered', () => isMet);
  const ask = (
    request: Omit<GroupRequest, 'startId' | 'pool' | 'group'>,
    start = startId,
  ): Promise<unknown> =>
    link.ask(CONTROL.group, encodeGroupRequest({ ...request, startId: start, pool: 1, group: 0 }), {
      deadlineMs: 5000,
      repeats: true,
    });
  return { link, startId, ask };
}

await t.test('a member takes a group, and only as the start that it is', async (t) => {
  const cluster = await LiveCluster.start(t, 0);
  const daemons = [];
  for (const number of [1, 2]) daemons.push(await registered(t, cluster, number));
  const { admin } = cluster.leading().master;
  await admin.createPool('p', { groups: 1 }, false);
  const group = (): MapGroup => {
    const found = admin.map().pools[0]?.groups[0];
    if (found === undefined) throw new Error('there is a group');
    return found;
  };
  const [first = 0, second = 0] = group().members.map(({ daemon }) => daemon);
  const [primary, other] = [daemons[first - 1], daemons[second - 1]];
  if (primary === undefined || other === undefined) throw new Error('there are two');
  const { epoch } = group();
  const none = { member: 0, memberStart: '' };
  t.equal(await codeOf(other.ask({ kind: 'take', epoch, ...none }, primary.startId)), 'E_DENIED');
  t.equal(await codeOf(other.ask({ kind: 'renew', epoch, ...none })), 'E_DENIED');
  t.equal(await codeOf(other.ask({ kind: 'take', epoch: epoch - 1, ...none })), 'E_STALE_MAP');
  const answer = (await other.ask({ kind: 'take', epoch, ...none })) as {
    fields: { version: number };
  };
  t.equal(answer.fields.version, admin.map().version);
  t.match(group().members, [{ daemon: second }, { daemon: first, inSync: null }]);
  const asked = { member: first, memberStart: primary.startId };
  await other.ask({ kind: 'joined', epoch: epoch + 1, ...asked });
  await other.ask({ kind: 'joined', epoch: epoch + 1, ...asked });
  t.match(group(), { epoch: epoch + 2, members: [{}, { inSync: primary.startId }] });
  t.match(admin.status(), { health: 'ok', pools: [{ groupsDegraded: 0, replicas: 2 }] });

  // The primary is started anew: the other one leads at once.
  other.link.close();
  await until('it is seen to leave', () => admin.group('p', 0).members[0]?.state !== 'up');
  await registered(t, cluster, second);
  t.match(group(), { epoch: epoch + 3, members: [{ daemon: first }, { inSync: null }] });
  t.match(admin.group('p', 0), { state: 'read-only', wanted: { length: 2 } });
});

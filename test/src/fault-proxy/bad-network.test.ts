// A pool over a bad network is the pool it is over a good one: the client hides what is lost, doubled, late or cut off.
import { objectPoolSuite } from '@store/core/testing';
import t from 'tap';
import { SeededRandom, testSeed } from '../tagged-writer/seeded-random.js';
import type { DatagramFaults } from './datagram-faults.js';
import type { FaultProxyOptions } from './fault-proxy.js';
import { ProxiedStore } from './proxied-store.js';

t.setTimeout(600_000);

const seed = testSeed();
t.comment(`replay: STORE_SEED=${seed} node test/dist/fault-proxy/bad-network.test.js`);
const random = new SeededRandom(seed);

// Each step of the random operations waits for the network several times.
process.env['STORE_TEST_RUNS'] ??= '2';

const BAD_DATAGRAMS: DatagramFaults = {
  dropPercent: 5,
  duplicatePercent: 5,
  delayPercent: 20,
  delayMsMax: 20,
};

interface Network {
  readonly name: string;
  readonly isUdp: boolean;
  readonly faults: Omit<FaultProxyOptions, 'targetPort' | 'seed'>;
}

const NETWORKS: readonly Network[] = [
  {
    name: 'datagrams that are lost, doubled and overtaken',
    isUdp: true,
    faults: { datagrams: BAD_DATAGRAMS },
  },
  {
    name: 'connections in pieces that are cut all the time',
    isUdp: false,
    faults: { streams: { cutAfterMs: [30, 300], pieceBytesMax: 60_000 } },
  },
  {
    name: 'bad and damaged datagrams, and cut connections',
    isUdp: true,
    faults: {
      datagrams: { ...BAD_DATAGRAMS, flipPercent: 5 },
      streams: { cutAfterMs: [100, 400] },
    },
  },
];

for (const { name, isUdp, faults } of NETWORKS) {
  const tried = { cuts: 0, connections: 0, dropped: 0, duplicated: 0, delayed: 0, flipped: 0 };
  const all: ProxiedStore[] = [];
  await objectPoolSuite(t, `RemoteStore over ${name}`, async () => {
    const served = await ProxiedStore.start(t, { seed: random.next32(), ...faults });
    all.push(served);
    return {
      store: await served.connect({ isUdp }),
      reopen: () => served.connect({ isUdp }),
    };
  });
  for (const { proxy } of all) {
    tried.cuts += proxy.cutCount;
    tried.connections += proxy.connectionCount;
    const { dropped, duplicated, delayed, flipped } = proxy.datagrams.tally;
    tried.dropped += dropped;
    tried.duplicated += duplicated;
    tried.delayed += delayed;
    tried.flipped += flipped;
  }
  t.comment(`${name}: ${JSON.stringify(tried)}`);
  const { datagrams, streams } = faults;
  if (streams?.cutAfterMs !== undefined) t.ok(tried.cuts > 10, 'connections were cut');
  if (datagrams?.dropPercent !== undefined) {
    t.ok(tried.dropped > 50 && tried.duplicated > 50, 'datagrams were lost and doubled');
    t.ok(tried.delayed > 100, 'datagrams were overtaken');
  }
  if (datagrams?.flipPercent !== undefined) t.ok(tried.flipped > 50, 'datagrams were damaged');
}

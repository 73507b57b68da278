import { randomInt } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import t from 'tap';
import { crc32c } from '../util/crc32c.js';
import { StoreError } from '../util/errors.js';
import { decodeMap, encodeMap } from './map-codec.js';
import { MAP_BYTES_MAX, WEIGHT_MAX } from './map-limits.js';
import { checkMap, DURABILITIES, MEMBERSHIPS, orderedMap } from './map-rules.js';
import {
  FAILURE_DOMAINS,
  type MapDaemon,
  type MapGroup,
  type MapPool,
  type StorageMap,
} from './storage-map.js';

/** Where a map says the version of its format, and the one that is read and not written any more. */
const VERSION_AT = 4;
const VERSION_BEFORE = 1;
const seed = Number(process.env['STORE_TEST_SEED'] ?? randomInt(2 ** 31));
const numRuns = Number(process.env['STORE_TEST_RUNS'] ?? 200);
t.comment(`replay: STORE_TEST_SEED=${seed} node ${process.argv[1] ?? ''}`);

const idOf = (number: number): string => number.toString(16).padStart(32, '0');

function daemonOf(id: number, change: Partial<MapDaemon> = {}): MapDaemon {
  return {
    id,
    diskId: idOf(0xd0000 + id),
    startId: idOf(0x50000 + id),
    address: `127.0.0.1:${5000 + id}`,
    peerAddress: `[::1]:${6000 + id}`,
    host: `h${id}`,
    rack: 'r1',
    weight: 1000,
    membership: 'in',
    ...change,
  };
}

const GROUP: MapGroup = {
  epoch: 3,
  members: [
    { daemon: 1, inSync: idOf(0x50001) },
    { daemon: 2, inSync: idOf(77) },
    { daemon: 4, inSync: null },
  ],
  hasPrimary: true,
  lostAt: 2,
  givenUpAt: 1,
};

function poolOf(change: Partial<MapPool> = {}): MapPool {
  return {
    id: 1,
    name: 'vms',
    replicas: 3,
    minReplicas: 2,
    objectBytes: 4 * 1024 * 1024,
    failureDomain: 'host',
    durability: 'flush',
    groups: [GROUP, { epoch: 1, members: [], hasPrimary: false, lostAt: 0, givenUpAt: 0 }],
    ...change,
  };
}

function mapOf(change: Partial<StorageMap> = {}): StorageMap {
  return {
    clusterId: idOf(0xc),
    version: 9,
    daemons: [daemonOf(1), daemonOf(2, { startId: null, peerAddress: null }), daemonOf(4)],
    pools: [poolOf()],
    blockedClients: ['build-host-7', 'käse'],
    blockedTickets: [idOf(0x71)],
    ...change,
  };
}

const withDaemon = (change: Partial<MapDaemon>): StorageMap =>
  mapOf({ daemons: [daemonOf(1, change), daemonOf(2), daemonOf(4)] });
const withPool = (change: Partial<MapPool>): StorageMap => mapOf({ pools: [poolOf(change)] });
const withGroup = (change: Partial<MapGroup>): StorageMap =>
  withPool({ groups: [{ ...GROUP, ...change }] });

/** Why it is refused; null: it is not. */
function refusal(act: () => unknown): string | null {
  try {
    act();
    return null;
  } catch (error) {
    if (error instanceof StoreError && error.code === 'E_FORMAT') return error.message;
    throw error;
  }
}

/** The bytes with a checksum that fits. */
function sealed(bytes: Buffer): Buffer {
  const out = Buffer.from(bytes);
  out.writeUInt32LE(crc32c(out.subarray(0, -4)), out.length - 4);
  return out;
}

t.test('a small map has these bytes', async (t) => {
  const map = mapOf({ daemons: [daemonOf(1)], pools: [], blockedClients: ['a'] });
  t.equal(
    encodeMap(map).toString('hex'),
    `736d617002${idOf(0xc)}09` +
      `0101${idOf(0xd0001)}03${idOf(0x50001)}0e${Buffer.from('127.0.0.1:5001').toString('hex')}` +
      `0a${Buffer.from('[::1]:6001').toString('hex')}02683102723` +
      `1e80700` +
      `00010161` +
      `01${idOf(0x71)}49f39f1f`,
  );
});

t.test('a map of version 1 is read, in which no flushed writes were lost', async (t) => {
  const text =
    `736d617001${idOf(0xc)}090101${idOf(0xd0001)}01${idOf(0x50001)}0d` +
    `${Buffer.from('10.0.0.1:5000').toString('hex')}026831027231e80700010103766d7301011601` +
    `0007070501030400000083cc85c2`;
  const [lost, fine] = decodeMap(Buffer.from(text, 'hex')).pools[0]?.groups ?? [];
  t.match(lost, { epoch: 7, lostAt: 5, givenUpAt: 0, hasPrimary: true });
  t.match(fine, { epoch: 3, lostAt: 0, givenUpAt: 0, members: [{ daemon: 1, inSync: null }] });
});

t.test('what was encoded is decoded, and gives the same bytes again', async (t) => {
  for (const map of [mapOf(), mapOf({ daemons: [], pools: [], blockedClients: [] })]) {
    const bytes = encodeMap(map);
    t.same(decodeMap(bytes), map);
    t.ok(encodeMap(decodeMap(bytes)).equals(bytes));
  }
});

t.test('a flipped bit anywhere is refused, and so is every part of a map', async (t) => {
  const bytes = encodeMap(mapOf());
  for (let bit = 0; bit < bytes.length * 8; bit += 1) {
    const flipped = Buffer.from(bytes);
    flipped.writeUInt8(flipped.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
    if (refusal(() => decodeMap(flipped)) === null) t.fail(`bit ${bit}`);
  }
  for (let end = 0; end < bytes.length; end += 1) {
    if (refusal(() => decodeMap(bytes.subarray(0, end))) === null) t.fail(`${end} bytes`);
    const part = bytes.subarray(0, end);
    // As somebody would send it who computes a checksum as well.
    const hostile = Buffer.concat([part, Buffer.alloc(4)]);
    hostile.writeUInt32LE(crc32c(part), end);
    if (end < bytes.length - 4 && refusal(() => decodeMap(hostile)) === null)
      t.fail(`${end} bytes with a checksum`);
  }
  t.match(
    refusal(() => decodeMap(Buffer.alloc(MAP_BYTES_MAX + 1))),
    /allowed/,
  );
});

t.test('damage under a good checksum is refused, or is another map in its only form', async (t) => {
  const bytes = encodeMap(mapOf());
  for (let at = 0; at < bytes.length - 4; at += 1)
    for (const value of [0, 1, 2, 3, 7, 0x40, 0x7f, 0x80, 0xff]) {
      const hostile = Buffer.from(bytes);
      hostile[at] = value;
      const damaged = sealed(hostile);
      const why = refusal(() => {
        if (!encodeMap(decodeMap(damaged)).equals(damaged)) t.fail(`byte ${at} as ${value}`);
      });
      if (why !== null && !why.startsWith('Bad storage map: ')) t.fail(why);
    }
});

t.test('counts that promise more than follows allocate nothing', async (t) => {
  const empty = encodeMap(
    mapOf({ daemons: [], pools: [], blockedClients: [], blockedTickets: [] }),
  );
  const head = empty.subarray(0, 22);
  const zeros = Buffer.alloc(4);
  const huge = (...body: number[]): string | null =>
    refusal(() => decodeMap(sealed(Buffer.concat([head, Buffer.from(body), zeros]))));
  t.match(huge(0xff, 0xff, 0x03), /too short for its daemons/);
  t.match(huge(0x81, 0x80, 0x04), /65537 daemons; 65536 are allowed/);
  t.match(huge(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f), /daemons; 65536 are allowed/);
  t.match(huge(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f), /too long/);
  t.match(huge(0x80, 0x00), /too long/, 'a number in more bytes than it needs');
  const pool = [1, 1, 0x61, 1, 1, 22, 16, 0];
  t.match(huge(0, 1, ...pool, 0, 0, 0), /too short for its groups/);
  t.match(huge(0, 1, 1, 1, 0x61, 1, 1, 22, 17, 0, 0, 0, 0), /too many/);
});

t.test('fields are taken at their limits and refused beyond, both ways', async (t) => {
  const fine: [string, StorageMap][] = [
    ['version', mapOf({ version: Number.MAX_SAFE_INTEGER })],
    ['weight 0', withDaemon({ weight: 0 })],
    ['weight', withDaemon({ weight: WEIGHT_MAX })],
    [
      'id',
      mapOf({ pools: [], daemons: [daemonOf(2 ** 32 - 1, { address: 'a:1', peerAddress: null })] }),
    ],
    ['port', withDaemon({ address: 'host.example:65535' })],
    ['label', withDaemon({ host: 'h'.repeat(255) })],
    ['pool name', withPool({ name: 'p'.repeat(128) })],
    ['replicas', withPool({ replicas: 16, minReplicas: 16 })],
    ['replicas 1', withPool({ replicas: 1, minReplicas: 1 })],
    ['objectBytes', withPool({ objectBytes: 2 ** 30 })],
    ['objectBytes min', withPool({ objectBytes: 65_536 })],
    ['groups', withPool({ groups: new Array<MapGroup>(65_536).fill(GROUP) })],
    ['one group', withPool({ groups: [GROUP] })],
    ['epoch', withGroup({ epoch: 2 ** 32 - 1, lostAt: 2 ** 32 - 1 })],
    ['given up', withGroup({ lostAt: 3, givenUpAt: 3 })],
    ['never given up', withGroup({ lostAt: 3, givenUpAt: 0 })],
  ];
  for (const [what, map] of fine) t.strictSame(decodeMap(encodeMap(map)), map, what);
  const bad: [RegExp, StorageMap][] = [
    [/cluster has id/, mapOf({ clusterId: 'AB'.repeat(16) })],
    [/version 0/, mapOf({ version: 0 })],
    [/version 9007199254740992/, mapOf({ version: 2 ** 53 })],
    [/weight -1/, withDaemon({ weight: -1 })],
    [/weight 1.5/, withDaemon({ weight: 1.5 })],
    [/weight Infinity/, withDaemon({ weight: Infinity })],
    [/weight 4294967296/, withDaemon({ weight: 2 ** 32 })],
    [/id 0/, mapOf({ daemons: [daemonOf(0)] })],
    [/id 4294967296/, mapOf({ daemons: [daemonOf(2 ** 32, { address: 'a:1' })] })],
    [/comes after daemon 2/, mapOf({ daemons: [daemonOf(2), daemonOf(1)] })],
    [/comes after daemon 1/, mapOf({ daemons: [daemonOf(1), daemonOf(1)] })],
    [
      /disk id of daemon 1/,
      mapOf({ daemons: [daemonOf(1), daemonOf(2, { diskId: idOf(0xd0001) })] }),
    ],
    [/start id/, withDaemon({ startId: 'x' })],
    [/not HOST:PORT/, withDaemon({ address: 'host' })],
    [/not HOST:PORT/, withDaemon({ address: 'host:65536' })],
    [/not HOST:PORT/, withDaemon({ address: 'host:0' })],
    [/not HOST:PORT/, withDaemon({ address: '::1:80' })],
    [/not HOST:PORT/, withDaemon({ peerAddress: 'a b:1' })],
    [/not HOST:PORT/, withDaemon({ peerAddress: `${'a'.repeat(261)}:1` })],
    [/host label of daemon 1 is empty/, withDaemon({ host: '' })],
    [/rack label of daemon 1 has 256 bytes/, withDaemon({ rack: 'r'.repeat(256) })],
    [/pool name "-x"/, withPool({ name: '-x' })],
    [/name is empty/, withPool({ name: '' })],
    [/129 bytes/, withPool({ name: 'p'.repeat(129) })],
    [/comes after pool 1/, mapOf({ pools: [poolOf(), poolOf({ name: 'b' })] })],
    [/name of another pool/, mapOf({ pools: [poolOf(), poolOf({ id: 2 })] })],
    [/replicas 0/, withPool({ replicas: 0 })],
    [/replicas 17/, withPool({ replicas: 17 })],
    [/minReplicas 0/, withPool({ minReplicas: 0 })],
    [/minReplicas 4/, withPool({ minReplicas: 4 })],
    [/objectBytes 32768/, withPool({ objectBytes: 32_768 })],
    [/no power of two/, withPool({ objectBytes: 65_536 * 3 })],
    [/objectBytes 2147483648/, withPool({ objectBytes: 2 ** 31 })],
    [/groups 0/, withPool({ groups: [] })],
    [/groups 3, which is no power/, withPool({ groups: [GROUP, GROUP, GROUP] })],
    [/groups 131072/, withPool({ groups: new Array<MapGroup>(131_072).fill(GROUP) })],
    [/epoch 0/, withGroup({ epoch: 0, lostAt: 0, givenUpAt: 0 })],
    [/epoch 4294967296/, withGroup({ epoch: 2 ** 32 })],
    [/lost writes at 4/, withGroup({ lostAt: 4 })],
    [/given up at 3, but lost at 2/, withGroup({ givenUpAt: 3 })],
    [/daemon 3, which there is not/, withGroup({ members: [{ daemon: 3, inSync: null }] })],
    [/daemon 1 twice/, withGroup({ members: [...GROUP.members, { daemon: 1, inSync: null }] })],
    [/a start of daemon 1/, withGroup({ members: [{ daemon: 1, inSync: 'abc' }] })],
    [/no first member that is in sync/, withGroup({ members: [] })],
    [/no first member/, withGroup({ members: [{ daemon: 1, inSync: null }] })],
    [/blocked clients is empty/, mapOf({ blockedClients: [''] })],
    [/out of order/, mapOf({ blockedClients: ['b', 'a'] })],
    [/out of order/, mapOf({ blockedTickets: [idOf(1), idOf(1)] })],
    [/blocked tickets is not 32/, mapOf({ blockedTickets: ['xyz'] })],
  ];
  for (const [why, map] of bad) {
    t.match(
      refusal(() => checkMap(map)),
      why,
    );
    t.match(
      refusal(() => encodeMap(map)),
      why,
    );
  }
  const many = Array.from({ length: 33 }, (_, index) => daemonOf(index + 1));
  const crowded = withPool({
    groups: [{ ...GROUP, members: many.map(({ id }) => ({ daemon: id, inSync: null })) }],
  });
  t.match(
    refusal(() => checkMap({ ...crowded, daemons: many })),
    /33 members; 32 are allowed/,
  );
});

t.test('orderedMap() gives lists in any order the one that is allowed', async (t) => {
  const map = mapOf({
    pools: [poolOf(), poolOf({ id: 2, name: 'b' })],
    blockedClients: ['a', 'b'],
  });
  const mixed = {
    ...map,
    daemons: map.daemons.toReversed(),
    pools: map.pools.toReversed(),
    blockedClients: ['b', 'a', 'b'],
  };
  t.ok(encodeMap(orderedMap(mixed)).equals(encodeMap(map)));
});

const member = fc.record({
  daemon: fc.integer({ min: 1, max: 9 }),
  inSync: fc.option(fc.integer({ min: 0, max: 4 }), { nil: null }),
});
const group = fc
  .record({
    epoch: fc.integer({ min: 1, max: 2 ** 32 - 1 }),
    members: fc.uniqueArray(member, { selector: ({ daemon }) => daemon, maxLength: 6 }),
    leads: fc.boolean(),
    loses: fc.boolean(),
  })
  .map(({ epoch, members, leads, loses }) => ({
    epoch,
    members: members.map(({ daemon, inSync }) => ({
      daemon,
      inSync: inSync === null ? null : idOf(0x50000 + daemon + inSync * 0x100),
    })),
    hasPrimary: leads && (members[0]?.inSync ?? null) !== null,
    lostAt: loses ? epoch : 0,
    givenUpAt: loses && leads ? Math.ceil(epoch / 2) : 0,
  }));
const maps = fc
  .record({
    version: fc.maxSafeNat().map((version) => Math.max(1, version)),
    memberships: fc.array(fc.constantFrom(...MEMBERSHIPS), { minLength: 9, maxLength: 9 }),
    weights: fc.array(fc.integer({ min: 0, max: WEIGHT_MAX }), { minLength: 9, maxLength: 9 }),
    pools: fc.array(
      fc.record({
        failureDomain: fc.constantFrom(...FAILURE_DOMAINS),
        durability: fc.constantFrom(...DURABILITIES),
        groups: fc.array(group, { minLength: 4, maxLength: 4 }),
      }),
      { maxLength: 4 },
    ),
  })
  .map(({ version, memberships, weights, pools }) =>
    mapOf({
      version,
      daemons: memberships.map((membership, index) =>
        daemonOf(index + 1, { membership, weight: weights[index] ?? 0 }),
      ),
      pools: pools.map((pool, index) => poolOf({ ...pool, id: index + 1, name: `p${index}` })),
    }),
  );

t.test('any map comes back as it was, and damaged ones never as two forms of one', async (t) => {
  const report = fc.check(
    fc.property(maps, fc.nat(), fc.nat({ max: 255 }), (map, place, value) => {
      const bytes = encodeMap(map);
      if (!isDeepStrictEqual(decodeMap(bytes), map)) return false;
      const hostile = Buffer.from(bytes);
      hostile[place % (bytes.length - 4)] = value;
      const damaged = sealed(hostile);
      refusal(() => {
        const read = decodeMap(damaged);
        const written = encodeMap(read);
        const isOld = damaged[VERSION_AT] === VERSION_BEFORE;
        const isOneForm = isOld
          ? isDeepStrictEqual(decodeMap(written), read)
          : written.equals(damaged);
        if (!isOneForm) throw new Error('a second form');
      });
      return true;
    }),
    { seed, numRuns },
  );
  t.notOk(report.failed, fc.defaultReportMessage(report) ?? 'all maps');
});

t.test('a map of 1,000 daemons and 100 pools is small, also after all restarted', async (t) => {
  const daemons = Array.from({ length: 1000 }, (_, index) =>
    daemonOf(index + 1, { host: `host-${index >> 2}.example`, rack: `rack-${index % 20}` }),
  );
  const groupsWith = (shift: number): MapPool[] =>
    Array.from({ length: 100 }, (_, pool) =>
      poolOf({
        id: pool + 1,
        name: `pool-${pool}`,
        groups: Array.from({ length: 128 }, (_, index) => ({
          epoch: 70_000 + index,
          hasPrimary: true,
          lostAt: 0,
          givenUpAt: 0,
          members: [0, 1, 2].map((copy) => {
            const daemon = ((pool * 389 + index * 3 + copy) % 1000) + 1;
            return { daemon, inSync: idOf(0x50000 + daemon + shift) };
          }),
        })),
      }),
    );
  for (const shift of [0, 0x10000]) {
    const map = mapOf({ daemons, pools: groupsWith(shift) });
    const bytes = encodeMap(map);
    decodeMap(bytes);
    const times = [1, 2, 3, 4, 5].map(() => {
      const start = performance.now();
      decodeMap(bytes);
      return performance.now() - start;
    });
    const least = Math.min(...times);
    t.comment(`${bytes.length} bytes, decoded in ${least.toFixed(1)} ms`);
    t.ok(bytes.length <= 1024 * 1024, 'at most 1 MiB');
    t.same(decodeMap(bytes).pools[99], map.pools[99]);
  }
});

/* eslint-disable no-restricted-globals -- a fixed moment is written as a date */
/** Clusters that look like real ones, the same each time: what a master would report of them. */
import type {
  ClusterStatus,
  DaemonStatus,
  ImageStatus,
  PoolStatus,
  Problem,
  Recovery,
  Traffic,
  TrafficHistory,
} from '@store/core';

const MIB = 2 ** 20;
const GIB = 2 ** 30;
const TIB = 2 ** 40;
/** When all of them report, seconds since 1970. */
const NOW_SECONDS = 1_767_268_800;
const STEP_SECONDS = 10;
const SAMPLES = 360;
const HOSTS_PER_RACK = 4;
const DISKS_PER_HOST = 4;

const NO_TRAFFIC: Traffic = {
  readsPerSecond: 0,
  writesPerSecond: 0,
  readBytesPerSecond: 0,
  writeBytesPerSecond: 0,
  readMs: 0,
  writeMs: 0,
};

const NO_RECOVERY: Recovery = { bytesLeft: 0, bytesPerSecond: 0, secondsLeft: null };

/** @param count - Daemons, four on each host, four hosts in each rack. */
export function healthyStatus(count: number): ClusterStatus {
  const daemons = Array.from({ length: count }, (_, index) => daemon(index));
  return summed({
    clusterId: '5f0c6a1e9b7d42338e21aa04c7d90b16',
    version: 412,
    time: new Date(NOW_SECONDS * 1000).toISOString(),
    health: 'ok',
    problems: [],
    masters: [
      { address: '10.0.0.11:9800', isLeader: true },
      { address: '10.0.0.12:9800', isLeader: false },
      { address: '10.0.0.13:9800', isLeader: false },
    ],
    daemons,
    pools:
      count === 0 ? [] : [pool(1, 'vms', 128), pool(2, 'databases', 64), pool(3, 'backup', 32)],
    images: count === 0 ? [] : images(),
    capacityBytes: 0,
    freeBytes: 0,
    usedBytes: 0,
    traffic: NO_TRAFFIC,
    recovery: NO_RECOVERY,
    recoveryRate: 0,
    incidents: [],
  });
}

/** One daemon down, one draining, one nearly full: the others recover what is missing. @param count - At least 4 */
export function degradedStatus(count: number): ClusterStatus {
  const healthy = healthyStatus(count);
  const daemons = healthy.daemons.map((one): DaemonStatus => {
    if (one.id === 2)
      return {
        ...one,
        state: 'down',
        stateSeconds: 312,
        recentStarts: 5,
        traffic: NO_TRAFFIC,
        primaries: 0,
      };
    if (one.id === 3) return { ...one, membership: 'draining', groups: 9, primaries: 0 };
    if (one.id === 4)
      return { ...one, usedBytes: one.capacityBytes * 0.94, freeBytes: one.capacityBytes * 0.05 };
    return one;
  });
  const [first, ...others] = healthy.pools;
  return summed({
    ...healthy,
    version: healthy.version + 3,
    health: 'error',
    problems: PROBLEMS,
    daemons,
    pools:
      first === undefined
        ? others
        : [
            { ...first, groupsDown: 2, groupsDegraded: 37, groupsJoining: 6, copiesMissing: 41 },
            ...others,
          ],
    recovery: {
      bytesLeft: 212 * GIB,
      bytesPerSecond: 184 * MIB,
      secondsLeft: (212 * GIB) / (184 * MIB),
    },
  });
}

const PROBLEMS: readonly Problem[] = [
  {
    severity: 'error',
    where: 'pool vms',
    what: '2 groups have no daemon that may serve them, and wait.',
    advice: 'Start daemon 2 again: it has their newest copies.',
  },
  {
    severity: 'warning',
    where: 'daemon 2',
    what: 'It has been down for 5 minutes, after 5 starts within an hour.',
    advice: 'Look into its log; if the disk is lost, type `store daemon remove 2`.',
  },
  {
    severity: 'warning',
    where: 'daemon 4',
    what: 'Its disk is 95 % full.',
    advice: 'Add a daemon, or type `store daemon set 4 --weight 400000`.',
  },
];

/** An hour with a slow wave, some noise, and a minute without any traffic; it ends with `now`. */
export function sampleHistory(now: Traffic): TrafficHistory {
  const samples = Array.from({ length: SAMPLES }, (_, index) => {
    const time = NOW_SECONDS - (SAMPLES - 1 - index) * STEP_SECONDS;
    if (index >= 200 && index < 206) return { time, ...NO_TRAFFIC };
    const reads = wave(index, 1) / wave(SAMPLES - 1, 1);
    const writes = wave(index, -0.8) / wave(SAMPLES - 1, -0.8);
    return { time, ...scaled(now, reads, writes) };
  });
  return { stepSeconds: STEP_SECONDS, samples };
}

function wave(index: number, height: number): number {
  return 1 + height * (0.35 * Math.sin(index / 28) + 0.08 * noise(index));
}

function scaled(now: Traffic, reads: number, writes: number): Traffic {
  return {
    readsPerSecond: now.readsPerSecond * reads,
    writesPerSecond: now.writesPerSecond * writes,
    readBytesPerSecond: now.readBytesPerSecond * reads,
    writeBytesPerSecond: now.writeBytesPerSecond * writes,
    readMs: now.readMs * (0.5 + reads / 2),
    writeMs: now.writeMs * (0.5 + writes / 2),
  };
}

function traffic(reads: number, writes: number, wave: number): Traffic {
  return {
    readsPerSecond: reads,
    writesPerSecond: writes,
    readBytesPerSecond: reads * 24 * 1024,
    writeBytesPerSecond: writes * 18 * 1024,
    readMs: 0.42 * wave,
    writeMs: 1.15 * wave,
  };
}

function daemon(index: number): DaemonStatus {
  const host = Math.floor(index / DISKS_PER_HOST);
  const rack = Math.floor(host / HOSTS_PER_RACK);
  const capacityBytes = (index % 3 === 0 ? 7.28 : 3.64) * TIB;
  const usedBytes = Math.round(capacityBytes * (0.46 + 0.12 * noise(index)));
  const port = 9810 + (index % DISKS_PER_HOST);
  const address = `10.${rack}.${host % HOSTS_PER_RACK}.20`;
  const load = 1 + 0.3 * noise(index + 7);
  return {
    id: index + 1,
    diskId: (index + 1).toString(16).padStart(32, 'a'),
    address: `${address}:${port}`,
    peerAddress: `${address}:${port + 100}`,
    host: `node-${String(host + 1).padStart(2, '0')}`,
    rack: `rack-${String.fromCharCode(97 + (rack % 26))}`,
    state: 'up',
    stateSeconds: 86_400 * 12 + index * 977,
    membership: 'in',
    weight: Math.round(capacityBytes / MIB),
    capacityBytes,
    hasReported: true,
    freeBytes: capacityBytes - usedBytes - 20 * GIB,
    usedBytes,
    groups: 38 + Math.round(5 * noise(index + 3)),
    primaries: 12 + Math.round(3 * noise(index + 5)),
    mapVersion: 412,
    recentStarts: 0,
    traffic: traffic(780 * load, 340 * load, load),
  };
}

function pool(id: number, name: string, groups: number): PoolStatus {
  return {
    id,
    name,
    replicas: id === 3 ? 2 : 3,
    minReplicas: id === 3 ? 1 : 2,
    groups,
    objectBytes: 4 * MIB,
    failureDomain: 'host',
    durability: id === 2 ? 'write' : 'flush',
    usedBytes: (4 - id) * 2.35 * TIB,
    storedBytes: ((4 - id) * 2.35 * TIB) / (id === 3 ? 2 : 3),
    objects: (4 - id) * 205_000,
    groupsDown: 0,
    groupsReadOnly: 0,
    groupsDegraded: 0,
    groupsJoining: 0,
    groupsMisplaced: 0,
    copiesMissing: 0,
    recovery: NO_RECOVERY,
    scrub: { lastLightSeconds: 7200, lastDeepSeconds: 259_200, errorsFound: 0, errorsRepaired: 0 },
  };
}

function images(): ImageStatus[] {
  return [
    { pool: 'vms', name: 'web-1', sizeBytes: 40 * GIB },
    { pool: 'vms', name: 'web-2', sizeBytes: 40 * GIB },
    { pool: 'vms', name: 'build-agent', sizeBytes: 512 * GIB },
    { pool: 'databases', name: 'orders', sizeBytes: 2 * TIB },
    { pool: 'databases', name: 'metrics', sizeBytes: 800 * GIB },
    { pool: 'backup', name: 'nightly', sizeBytes: 6 * TIB },
  ];
}

/** Fills in what is the sum of the daemons. */
function summed(status: ClusterStatus): ClusterStatus {
  const sum = (value: (daemon: DaemonStatus) => number): number =>
    status.daemons.reduce((total, one) => total + value(one), 0);
  const busy = status.daemons.filter(({ traffic }) => traffic.readsPerSecond > 0).length;
  const mean = (total: number): number => (busy === 0 ? 0 : total / busy);
  return {
    ...status,
    capacityBytes: sum((one) => one.capacityBytes),
    freeBytes: sum((one) => one.freeBytes),
    usedBytes: sum((one) => one.usedBytes),
    traffic: {
      readsPerSecond: sum(({ traffic }) => traffic.readsPerSecond),
      writesPerSecond: sum(({ traffic }) => traffic.writesPerSecond),
      readBytesPerSecond: sum(({ traffic }) => traffic.readBytesPerSecond),
      writeBytesPerSecond: sum(({ traffic }) => traffic.writeBytesPerSecond),
      readMs: mean(sum(({ traffic }) => traffic.readMs)),
      writeMs: mean(sum(({ traffic }) => traffic.writeMs)),
    },
  };
}

/** -1 to 1, the same for each index. */
function noise(index: number): number {
  const value = Math.sin(index * 12.9898 + 4.1) * 43_758.5453;
  return 2 * (value - Math.floor(value)) - 1;
}

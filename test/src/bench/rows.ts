/**
 * The work every server does: one row of the table each. Goals are ratios to the best peer in the same run.
 * A row is asked for by words of its name (`--rows 4k,tls`).
 */

/** Which images a row needs: filled ones, the same behind TLS, or almost empty ones of 1 TiB. */
export type Stage = 'plain' | 'tls' | 'sparse';

/** The order in which stages run; servers are started anew for each. */
export const STAGES: readonly Stage[] = ['plain', 'tls', 'sparse'];

export interface FioWork {
  readonly client: 'fio';
  readonly rw: 'randread' | 'randwrite' | 'randrw' | 'read' | 'write';
  readonly block: '4k' | '64k' | '1M';
  /** Requests in flight of each connection. */
  readonly depth: number;
  readonly connections: number;
  /** A flush after so many writes. */
  readonly fsyncEvery?: number;
}

export interface CopyWork {
  readonly client: 'nbdcopy';
  /** `in`: a file of random bytes into the image; `out`: the image to nowhere. */
  readonly direction: 'in' | 'out';
  readonly connections: number;
}

/** What one daemon behind the gateway must reach in a row. */
export interface DaemonGoal {
  /** Beside which server: ours with its own store, or nbdkit file. */
  readonly beside: 'store' | 'nbdkit-file' | 'ceph-rbd';
  /** Of the medians. */
  readonly ratio: number;
  /** In the row's unit; whoever reaches it needs no ratio. */
  readonly enough?: number;
}

export interface Row {
  /** Words with dashes, unique. */
  readonly name: string;
  readonly title: string;
  readonly stage: Stage;
  readonly work: FioWork | CopyWork;
  readonly unit: 'IOPS' | 'MB/s';
  /** Wanted: our median over that of the best peer. */
  readonly goal: number;
  /** What one daemon behind the gateway must reach; null: it is only measured. */
  readonly daemonGoal: DaemonGoal | null;
  /**
   * The page cache is dropped before each measurement, and each block is read once. Else all of the image is read just
   * before, so that it is in the page cache.
   */
  readonly cold: boolean;
  /** Part of `--quick`. */
  readonly quick: boolean;
}

/** 4 KiB with at least 32 requests in flight. */
const GOAL_DEEP = 2;
/** 4 KiB, one request at a time. */
const GOAL_SINGLE = 1.2;
/** Everything else: sizes, fsync, TLS, 1 TiB, cold. */
const GOAL_OTHER = 1;

/** 4 KiB reads through a daemon: the network's share of the work is bounded. */
const DAEMON_DEEP: DaemonGoal = { beside: 'store', ratio: 0.6 };
/** 1 MiB through a daemon; 1 GB/s is enough on any machine. */
const DAEMON_LONG: DaemonGoal = { beside: 'nbdkit-file', ratio: 0.5, enough: 1000 };

type Extra = Partial<Pick<Row, 'stage' | 'cold' | 'quick' | 'goal' | 'daemonGoal'>>;

/** All rows, in the order of the table. */
export const ROWS: readonly Row[] = [
  fio('randread 4k QD1', 'randread', '4k', 1, { goal: GOAL_SINGLE, quick: true }),
  fio('randread 4k QD32', 'randread', '4k', 32, {
    ...{ goal: GOAL_DEEP, daemonGoal: DAEMON_DEEP, quick: true },
  }),
  fio('randread 4k QD128', 'randread', '4k', 128, { goal: GOAL_DEEP }),
  fio('randwrite 4k QD1', 'randwrite', '4k', 1, { goal: GOAL_SINGLE, quick: true }),
  fio('randwrite 4k QD32', 'randwrite', '4k', 32, { goal: GOAL_DEEP, quick: true }),
  fio('randwrite 4k QD128', 'randwrite', '4k', 128, { goal: GOAL_DEEP }),
  fio('mix 70/30 4k QD32', 'randrw', '4k', 32, { goal: GOAL_DEEP }),
  fio('randread 64k QD16', 'randread', '64k', 16),
  fio('randwrite 64k QD16', 'randwrite', '64k', 16),
  fio('read 1M QD4', 'read', '1M', 4, { daemonGoal: DAEMON_LONG, quick: true }),
  fio('write 1M QD4', 'write', '1M', 4, { daemonGoal: DAEMON_LONG, quick: true }),
  sync('randwrite 4k QD1 fsync 1', 1, 1, { quick: true }),
  sync('randwrite 4k QD32 fsync 32', 32, 32, { quick: true }),
  many('randread 4k QD8 connections 1', 'randread', 1, 8),
  many('randread 4k QD8 connections 4', 'randread', 4, 8),
  many('randread 4k QD8 connections 16', 'randread', 16, 8),
  many('randwrite 4k QD8 connections 4', 'randwrite', 4, 8),
  many('randwrite 4k QD8 connections 16', 'randwrite', 16, 8),
  copy('nbdcopy in connections 4', 'in', 4),
  copy('nbdcopy out connections 4', 'out', 4),
  fio('cold randread 4k QD32', 'randread', '4k', 32, { cold: true, goal: GOAL_OTHER }),
  fio('cold read 1M QD4', 'read', '1M', 4, { cold: true }),
  fio('tls randread 4k QD32', 'randread', '4k', 32, { stage: 'tls', quick: true }),
  fio('tls randwrite 4k QD32', 'randwrite', '4k', 32, { stage: 'tls' }),
  fio('tls read 1M QD4', 'read', '1M', 4, { stage: 'tls' }),
  fio('1TiB randread 4k QD32', 'randread', '4k', 32, { stage: 'sparse' }),
  copy('1TiB nbdcopy out', 'out', 4, { stage: 'sparse' }),
];

/** The rows whose names contain one of the words; all, or the quick ones, without words. @throws Error for a word of none */
export function chooseRows(words: readonly string[], quick: boolean): readonly Row[] {
  if (words.length === 0) return quick ? ROWS.filter((row) => row.quick) : ROWS;
  const stranger = words.find((word) => !ROWS.some(({ name }) => name.includes(word)));
  if (stranger !== undefined)
    throw new Error(
      `No row has '${stranger}' in its name; there are ${ROWS.map(({ name }) => name).join(', ')}`,
    );
  return ROWS.filter(({ name }) => words.some((word) => name.includes(word)));
}

/** Whether a row writes, so that what it left in the page cache must not disturb the next one. */
export function writes(row: Row): boolean {
  const { work } = row;
  return work.client === 'fio' ? /write|rw/.test(work.rw) : work.direction === 'in';
}

function row(title: string, unit: Row['unit'], work: FioWork | CopyWork, extra: Extra): Row {
  const name = title.toLowerCase().replaceAll('/', '-').replaceAll(' ', '-');
  const standard = { stage: 'plain', cold: false, quick: false, goal: GOAL_OTHER } as const;
  return { name, title, unit, work, ...standard, daemonGoal: null, ...extra };
}

function fio(
  title: string,
  rw: FioWork['rw'],
  block: FioWork['block'],
  depth: number,
  extra: Extra = {},
): Row {
  const unit = block === '1M' ? 'MB/s' : 'IOPS';
  return row(title, unit, { client: 'fio', rw, block, depth, connections: 1 }, extra);
}

function sync(title: string, depth: number, fsyncEvery: number, extra: Extra = {}): Row {
  const work = { client: 'fio', rw: 'randwrite', block: '4k', depth, connections: 1 } as const;
  return row(title, 'IOPS', { ...work, fsyncEvery }, extra);
}

function many(title: string, rw: FioWork['rw'], connections: number, depth: number): Row {
  const work = { client: 'fio', rw, block: '4k', depth, connections } as const;
  return row(title, 'IOPS', work, { goal: connections * depth >= 32 ? GOAL_DEEP : GOAL_OTHER });
}

function copy(
  title: string,
  direction: CopyWork['direction'],
  connections: number,
  extra: Extra = {},
): Row {
  return row(title, 'MB/s', { client: 'nbdcopy', direction, connections }, extra);
}

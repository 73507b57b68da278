/** What `make bench ARGS='…'` understands. */
import { tmpdir } from 'node:os';
import { parseArgs } from 'node:util';
import { chooseRows, type Row } from './rows.js';
import { chooseServers, type ServerKind } from './server-kinds.js';

export interface BenchOptions {
  readonly rows: readonly Row[];
  /** Ours with its own store first. */
  readonly kinds: readonly ServerKind[];
  readonly rounds: number;
  readonly seconds: number;
  readonly tcp: boolean;
  readonly json: boolean;
  /** For `bench.json`, `bench.md` and `bench.svg`. */
  readonly out: string;
  /** Below it is a folder for the images, for as long as it runs. */
  readonly work: string;
}

export const USAGE = `Usage: make bench ARGS='[options]'
  --rows WORDS     only rows with one of these words in their names, with commas (4k,tls)
  --peers WORDS    only these beside store (store-daemon,store-cluster,ceph-rbd,nbdkit-file,
                   nbdkit-memory,qemu-nbd,nbd-server)
  --rounds N       rounds (default: 3)
  --seconds N      length of a measurement (default: 2)
  --quick          a few rows, 2 rounds of 1.5 s: about four minutes
  --tcp            TCP on loopback instead of Unix sockets
  --out DIR        where bench.json, bench.md and bench.svg go (default: bench-results)
  --work DIR       the disk to use: a folder is made there and removed (default: ${tmpdir()})
  --json           JSON on standard output instead of tables`;

const SECONDS_MAX = 3600;
const ROUNDS_MAX = 100;

/** @throws Error in one line that says what to do */
export function parseOptions(args: readonly string[]): BenchOptions {
  const { values } = parseArgs({
    args: [...args],
    options: {
      rows: { type: 'string' },
      peers: { type: 'string' },
      rounds: { type: 'string' },
      seconds: { type: 'string' },
      quick: { type: 'boolean', default: false },
      tcp: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      out: { type: 'string', default: 'bench-results' },
      work: { type: 'string', default: tmpdir() },
    },
  });
  const { quick, tcp, json, out, work } = values;
  const rounds = numberOf('--rounds', values.rounds, quick ? 2 : 3, 1, ROUNDS_MAX);
  if (!Number.isInteger(rounds)) throw new Error(`--rounds is a whole number, not ${rounds}`);
  return {
    rows: chooseRows(wordsOf(values.rows), quick),
    kinds: chooseServers(wordsOf(values.peers)),
    rounds,

    seconds: numberOf('--seconds', values.seconds, quick ? 1.5 : 2, 0.1, SECONDS_MAX),
    ...{ tcp, json, out, work },
  };
}

function wordsOf(text: string | undefined): string[] {
  return (text ?? '').split(',').filter((word) => word !== '');
}

function numberOf(
  flag: string,
  text: string | undefined,
  fallback: number,
  min: number,
  max: number,
): number {
  if (text === undefined) return fallback;
  const value = Number(text);
  if (!(value >= min && value <= max))
    throw new Error(`${flag} is a number from ${min} to ${max}, not '${text}'`);
  return value;
}

/** What a master has daemons do about scrubs and the speed of recovery, as JSON, and what they answer. */
import { MAP_ID_MAX } from '../map/map-limits.js';
import { StoreError } from '../util/errors.js';
import { booleanIn, numberIn, textIn, type JsonFields } from '../wire/json-body.js';

/** Light: do all copies have the same objects in the same versions? Deep: is every byte what its checksum says? */
export type ScrubKind = 'light' | 'deep';

export interface ScrubRequest {
  /** `status`: begin nothing. */
  readonly kind: ScrubKind | 'status';
  /** That is looked through, and whose findings are told; 0: all pools. */
  readonly pool: number;
}

/** What a scrub found since the daemon was started. */
export interface ScrubCounts {
  readonly groupsDone: number;
  readonly objectsDone: number;
  /** Blocks and objects that did not match their checksums, or were missing or too many. */
  readonly errors: number;
  readonly repaired: number;
  /** Verified copies of one version that differ: must stay 0. */
  readonly contradictions: number;
}

/** One thing that was found. */
export interface ScrubFinding {
  /** Since the start, from 1 on. */
  readonly number: number;
  readonly pool: number;
  readonly group: number;
  /** Whose copy it was. */
  readonly daemon: number;
  /** Printable. */
  readonly object: string;
  readonly what: string;
  readonly isRepaired: boolean;
}

/** How the scrub of one daemon stands. */
export interface DaemonScrub {
  /** Of the daemon: counts begin anew with it. */
  readonly startId: string;
  /** The group that is being looked through. */
  readonly running: {
    readonly pool: number;
    readonly group: number;
    readonly kind: ScrubKind;
  } | null;
  /** Groups that wait for their turn, or are being looked through, because somebody asked for it. */
  readonly wanted: number;
  /** Of these, how many this request has added. */
  readonly begun: number;
  readonly found: ScrubCounts;
  /** The newest, oldest first. */
  readonly findings: readonly ScrubFinding[];
}

/** As many fit into an answer, whatever is in them. */
export const FINDINGS_TOLD_MAX = 40;
const OBJECT_BYTES_MAX = 600;
const WHAT_BYTES_MAX = 200;
const MAX: number = Number.MAX_SAFE_INTEGER;
const GROUP_MAX = 0xffff;
const ID = /^[0-9a-f]{32}$/;

export function encodeScrubRequest(request: ScrubRequest): JsonFields {
  return { ...request };
}

/** @throws StoreError `E_BAD_FRAME` */
export function decodeScrubRequest(fields: JsonFields): ScrubRequest {
  const { kind } = fields;
  if (kind !== 'status' && kind !== 'light' && kind !== 'deep')
    throw new StoreError('E_BAD_FRAME', 'A scrub is asked for that is none that is known');
  return { kind, pool: numberIn(fields, 'pool', MAP_ID_MAX) };
}

export function encodeDaemonScrub(scrub: DaemonScrub): JsonFields {
  return { ...scrub, findings: scrub.findings.slice(-FINDINGS_TOLD_MAX) };
}

/** @throws StoreError `E_BAD_FRAME` */
export function decodeDaemonScrub(fields: JsonFields): DaemonScrub {
  const startId = textIn(fields, 'startId', 32);
  const findings = fields['findings'];
  if (!ID.test(startId) || !Array.isArray(findings) || findings.length > FINDINGS_TOLD_MAX)
    throw new StoreError('E_BAD_FRAME', 'What a daemon says of its scrub cannot be read');
  const found = objectIn(fields['found']);
  return {
    startId,
    running: fields['running'] === null ? null : runningIn(objectIn(fields['running'])),
    wanted: numberIn(fields, 'wanted', MAX),
    begun: numberIn(fields, 'begun', MAX),
    found: {
      groupsDone: numberIn(found, 'groupsDone', MAX),
      objectsDone: numberIn(found, 'objectsDone', MAX),
      errors: numberIn(found, 'errors', MAX),
      repaired: numberIn(found, 'repaired', MAX),
      contradictions: numberIn(found, 'contradictions', MAX),
    },
    findings: findings.map((finding: unknown) => findingIn(objectIn(finding))),
  };
}

function runningIn(fields: JsonFields): NonNullable<DaemonScrub['running']> {
  return {
    pool: numberIn(fields, 'pool', MAP_ID_MAX),
    group: numberIn(fields, 'group', GROUP_MAX),
    kind: fields['kind'] === 'deep' ? 'deep' : 'light',
  };
}

function findingIn(fields: JsonFields): ScrubFinding {
  return {
    number: numberIn(fields, 'number', MAX),
    pool: numberIn(fields, 'pool', MAP_ID_MAX),
    group: numberIn(fields, 'group', GROUP_MAX),
    daemon: numberIn(fields, 'daemon', MAP_ID_MAX),
    object: textIn(fields, 'object', OBJECT_BYTES_MAX),
    what: textIn(fields, 'what', WHAT_BYTES_MAX),
    isRepaired: booleanIn(fields, 'isRepaired'),
  };
}

function objectIn(value: unknown): JsonFields {
  if (typeof value === 'object' && value !== null) return value as JsonFields; // JSON.parse made it
  throw new StoreError('E_BAD_FRAME', 'A part of a message is no object');
}

// --- what people are told ---

/** One daemon in a `ScrubReport`. */
export interface DaemonScrubReport {
  readonly daemon: number;
  readonly address: string;
  /** Null: it did not answer. */
  readonly scrub: DaemonScrub | null;
  /** Why not. */
  readonly problem: string | null;
}

/** What all connected daemons answer, and what they cannot be asked about. */
export interface ScrubReport {
  readonly daemons: readonly DaemonScrubReport[];
  /** Names of the pools that are spoken of by their number. */
  readonly pools: Readonly<Record<string, string>>;
  /** Groups that nobody can look through just now: their primary is not there. */
  readonly groupsOutOfReach: number;
}

/** What became of a wanted speed of recovery. */
export interface RateReport {
  readonly daemons: readonly {
    readonly daemon: number;
    readonly address: string;
    readonly problem: string | null;
  }[];
}

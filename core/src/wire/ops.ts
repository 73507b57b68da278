/** The operations of the protocol, and what their frames may hold. Numbers are never used again. */
import { FLUSH_BYTES_MAX } from './flush-request.js';
import { GUARD_REQUEST_BYTES_MAX } from './guard-request.js';
import { LIST_BYTES_MAX } from './object-answers.js';
import { BODY_BYTES_MAX, GREETING_BYTES_MAX, PAYLOAD_BYTES_MAX } from './wire-limits.js';

export const OP = {
  /** Speak TLS from the next byte on. */
  startTls: 1,
  /** Which versions, which daemon, which ticket. */
  hello: 2,
  /** Begins or resumes a session. */
  begin: 3,
  ping: 4,
  cancel: 5,
  openPool: 16,
  listPools: 17,
  read: 18,
  write: 19,
  zero: 20,
  /** As `zero` without `allocate`; told apart for people who count. */
  discard: 21,
  extents: 22,
  flush: 23,
  prefetch: 24,
  stat: 25,
  list: 26,
  compareAndSwap: 27,
  delete: 28,
  registerChain: 29,
  /** Raises the guard of an image, or removes it. */
  raiseGuard: 30,
} as const;
export type Op = (typeof OP)[keyof typeof OP];

/** What a ticket must allow: nothing in particular, reading, writing, administration. */
export type Right = 'none' | 'r' | 'w' | 'a';

export interface OpRule {
  readonly name: keyof typeof OP;
  readonly right: Right;
  /**
   * It is run once for each request id, and its answer is kept for whoever asks again; the others may be run again
   * without harm.
   */
  readonly runsOnce: boolean;
  /** Most bytes of a request's body and payload. */
  readonly bodyBytesMax: number;
  readonly payloadBytesMax: number;
}

const RULES: ReadonlyMap<number, OpRule> = new Map(
  (
    [
      // name, right, runs once, body, payload
      ['startTls', 'none', false, 0, 0],
      ['hello', 'none', false, GREETING_BYTES_MAX, 0],
      ['begin', 'none', false, GREETING_BYTES_MAX, 0],
      ['ping', 'none', false, 0, 0],
      ['cancel', 'none', false, 8, 0],
      ['openPool', 'r', false, GREETING_BYTES_MAX, 0],
      ['listPools', 'r', false, GREETING_BYTES_MAX, 0],
      ['read', 'r', false, GREETING_BYTES_MAX, 0],
      ['write', 'w', true, BODY_BYTES_MAX, PAYLOAD_BYTES_MAX],
      ['zero', 'w', true, GREETING_BYTES_MAX, 0],
      ['discard', 'w', true, GREETING_BYTES_MAX, 0],
      ['extents', 'r', false, GREETING_BYTES_MAX, 0],
      ['flush', 'r', true, FLUSH_BYTES_MAX, 0],
      ['prefetch', 'r', false, GREETING_BYTES_MAX, 0],
      ['stat', 'r', false, GREETING_BYTES_MAX, 0],
      ['list', 'r', false, LIST_BYTES_MAX, 0],
      ['compareAndSwap', 'w', true, GREETING_BYTES_MAX, PAYLOAD_BYTES_MAX],
      ['delete', 'w', true, GREETING_BYTES_MAX, 0],
      ['registerChain', 'r', false, BODY_BYTES_MAX, 0],
      ['raiseGuard', 'w', true, GUARD_REQUEST_BYTES_MAX, 0],
    ] as const
  ).map(([name, right, runsOnce, bodyBytesMax, payloadBytesMax]) => [
    OP[name],
    { name, right, runsOnce, bodyBytesMax, payloadBytesMax },
  ]),
);

/** Undefined if no operation has that number. */
export function ruleOf(op: number): OpRule | undefined {
  return RULES.get(op);
}

/** Every operation, for metrics. */
export function opNames(): string[] {
  return [...RULES.values()].map(({ name }) => name);
}

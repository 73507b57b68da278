/** What masters, daemons and clients say to each other about the cluster. Numbers are never used again, nor those of OP. */
import { OP } from '../wire/ops.js';

export const CONTROL = {
  /** Speak TLS from the next byte on; the same as for daemons. */
  startTls: OP.startTls,
  /** Is the other end there? */
  ping: OP.ping,
  /** Who is there, what both speak, who leads. */
  meet: 64,
  /** The client proves to have its key. */
  prove: 65,
  /** A daemon says what it is and becomes a part of the cluster, or comes back. */
  register: 66,
  /** A daemon says how it is. */
  report: 67,
  /** Of others, to a master: the map, if there is a newer one, and each that follows. Of a master: one that follows. */
  map: 68,
  /** Secrets of pools, and pools that are no more: a daemon asks for them, and a master sends them when they change. */
  secrets: 69,
  /** A client wants a ticket. */
  ticket: 70,
  /** A person wants to know or to change something. */
  admin: 71,
  /** Of a master, to a daemon: the map that it keeps. For `store master recover`. */
  keptMap: 72,
  /** A daemon wants something decided about a group it is a member of. */
  group: 73,
  /** Of a master, to a daemon: groups are to be looked through, or how that stands. */
  scrub: 74,
  /** Of a master, to a daemon: how fast copies are to be made equal. */
  recovery: 75,
  /** Of a master, to a daemon: what its copy of a group holds. */
  copy: 76,
  /** Of a master, to a daemon: which images write to these layers. */
  layerNames: 77,
  /** Of a master, to a daemon: with which of these daemons it has a link. */
  links: 78,
} as const;
export type ControlOp = (typeof CONTROL)[keyof typeof CONTROL];

const NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(CONTROL).map(([name, op]) => [op, name]),
);

/** Undefined if there is no such operation. */
export function controlOpName(op: number): string | undefined {
  return NAMES.get(op);
}

export function isControlOp(op: number): op is ControlOp {
  return NAMES.has(op);
}

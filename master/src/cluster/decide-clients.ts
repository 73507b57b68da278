/** Decisions about clients: pure functions from one state of the cluster to the next. */
import { ClientKey, StoreError, TICKET_RIGHTS, type Random, type TicketRights } from '@store/core';
import type { ClientRights } from '../admin/admin-service.js';
import { ticketNameOf, withEntry, type ClientRecord, type ClusterState } from './cluster-state.js';

/** Of tickets: a client may go on for so long while no master answers. */
export const TICKET_SECONDS: number = 24 * 3600;
/** Clocks of machines may be apart by so much, so that a ticket lives longer on one of them. */
const SKEW_SECONDS = 600;
const ALL_POOLS = '*';
const PRUNED_MAX = 50;
/** It stands in log lines, in tickets and in names of files. */
const CLIENT_NAME = /^[A-Za-z0-9][A-Za-z0-9._@-]{0,99}$/;

/** @throws StoreError `E_EXISTS`, `E_INVALID` */
export function createClient(
  state: ClusterState,
  name: string,
  rights: ClientRights,
  { random, now }: { random: Random; now: number },
): { state: ClusterState; key: ClientKey } {
  if (state.clients.has(name))
    throw new StoreError(
      'E_EXISTS',
      `There is a client "${name}" already; for a new key: store client rotate ${name}`,
    );
  if (!CLIENT_NAME.test(name))
    throw new StoreError(
      'E_INVALID',
      `A client has a name of 1 to 100 letters, digits, '.', '_', '@' and '-', not ${JSON.stringify(name.slice(0, 120))}`,
    );
  checkRights(rights);
  const key = ClientKey.create(name, random);
  // A client of that name that was removed may have had tickets: this one's are told apart by their number.
  const generation = 1 + lastGeneration(state, name);
  const client: ClientRecord = {
    name,
    key: key.key,
    generation,
    isAdmin: rights.isAdmin,
    rights: rights.rights,
    created: now,
    rotated: 0,
  };
  return { state: { ...state, clients: withEntry(state.clients, name, client) }, key };
}

/** An administrator with a key that exists already: for a state that was recovered. */
export function withAdministrator(state: ClusterState, key: ClientKey, now: number): ClusterState {
  const { client: name } = key;
  const generation = 1 + lastGeneration(state, name);
  const rights = { [ALL_POOLS]: 'rwa' };
  const times = { created: now, rotated: 0 };
  const client: ClientRecord = { name, key: key.key, generation, isAdmin: true, rights, ...times };
  return { ...state, clients: withEntry(state.clients, name, client) };
}

/** @throws StoreError `E_NOT_FOUND`, `E_INVALID`; `E_IN_USE` for the last administrator */
export function setClient(state: ClusterState, name: string, rights: ClientRights): ClusterState {
  const client = clientOf(state, name);
  checkRights(rights);
  if (!rights.isAdmin) refuseLastAdmin(state, client);
  const next = { ...client, isAdmin: rights.isAdmin, rights: rights.rights };
  return { ...state, clients: withEntry(state.clients, name, next) };
}

/** The old key and its tickets are worth nothing from now on. @throws StoreError `E_NOT_FOUND` */
export function rotateClient(
  state: ClusterState,
  name: string,
  { random, now }: { random: Random; now: number },
): { state: ClusterState; key: ClientKey } {
  const client = clientOf(state, name);
  const key = ClientKey.create(name, random);
  const next: ClientRecord = {
    ...client,
    key: key.key,
    generation: client.generation + 1,
    rotated: now,
  };
  const clients = withEntry(state.clients, name, next);
  return { state: block({ ...state, clients }, client, now), key };
}

/** @throws StoreError `E_NOT_FOUND`; `E_IN_USE` for the last administrator */
export function removeClient(state: ClusterState, name: string, now: number): ClusterState {
  const client = clientOf(state, name);
  refuseLastAdmin(state, client);
  const clients = withEntry(state.clients, name, undefined);
  return block({ ...state, clients }, client, now);
}

/** Blocks that no ticket can need any more end: some of them, as a commit takes only so many changes. */
export function pruneBlocked(state: ClusterState, now: number): ClusterState {
  const over = [...state.blocked]
    .filter(([, until]) => until < now)
    .slice(0, PRUNED_MAX)
    .map(([name]) => name);
  if (over.length === 0) return state;
  const blocked = new Map(state.blocked);
  for (const name of over) blocked.delete(name);
  return withBlocked(state, blocked);
}

/** What a client may do in a pool; null: nothing. */
export function rightsOf(
  { rights }: Pick<ClientRecord, 'rights'>,
  pool: string,
): TicketRights | null {
  const own = Object.hasOwn(rights, pool) ? rights[pool] : rights[ALL_POOLS];
  return TICKET_RIGHTS.find((one) => one === own) ?? null;
}

/** @throws StoreError `E_NOT_FOUND` */
export function clientOf(state: ClusterState, name: string): ClientRecord {
  const client = state.clients.get(name);
  if (client !== undefined) return client;
  throw new StoreError('E_NOT_FOUND', `There is no client "${name}"; see store client ls`);
}

function block(state: ClusterState, client: ClientRecord, now: number): ClusterState {
  const until = now + TICKET_SECONDS + SKEW_SECONDS;
  return withBlocked(state, withEntry(state.blocked, ticketNameOf(client), until));
}

function withBlocked(state: ClusterState, blocked: ReadonlyMap<string, number>): ClusterState {
  const blockedClients = [...blocked.keys()].sort();
  return { ...state, blocked, map: { ...state.map, blockedClients } };
}

function lastGeneration(state: ClusterState, name: string): number {
  const numbers = [...state.blocked.keys()]
    .filter((blocked) => blocked.startsWith(`${name}#`))
    .map((blocked) => Number(blocked.slice(name.length + 1)));
  return Math.max(0, ...numbers.filter((number) => Number.isInteger(number)));
}

/** A cluster that nobody may change any more stays as it is for ever. */
function refuseLastAdmin(state: ClusterState, { name, isAdmin }: ClientRecord): void {
  const others = [...state.clients.values()].filter((one) => one.isAdmin && one.name !== name);
  if (isAdmin && others.length === 0)
    throw new StoreError(
      'E_IN_USE',
      `Client "${name}" is the only administrator; make another one first: store client create NAME --admin`,
    );
}

function checkRights({ rights }: ClientRights): void {
  for (const [pool, right] of Object.entries(rights))
    if (!TICKET_RIGHTS.some((one) => one === right))
      throw new StoreError(
        'E_INVALID',
        `The rights in pool '${pool}' are r, rw or rwa, not '${right}'`,
      );
}

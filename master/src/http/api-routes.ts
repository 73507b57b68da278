/** The JSON API: which path and method does what with the `AdminService`. */
import {
  FAILURE_DOMAINS,
  StoreError,
  type ClientStatus,
  type Durability,
  type Membership,
} from '@store/core';
import type {
  AdminService,
  ClientRights,
  DaemonChange,
  PoolSettings,
} from '../admin/admin-service.js';
import type { JsonBody } from './json-body.js';
import { queryBytes, queryText } from './request-path.js';

const MEMBERSHIPS: readonly Membership[] = ['in', 'draining', 'out'];
const DURABILITIES: readonly Durability[] = ['flush', 'write'];

export type ApiMethod = 'GET' | 'POST' | 'PATCH' | 'DELETE';

/** A request that has passed all checks. */
export interface ApiCall {
  /** What stands for `*` in the path; empty if there is none. */
  readonly name: string;
  readonly query: ReadonlyMap<string, string>;
  readonly isDryRun: boolean;
  /** Of POST and PATCH; empty for the others. */
  readonly body: JsonBody;
}

export interface ApiAnswer {
  readonly status: number;
  /** Undefined: no content. */
  readonly value?: unknown;
}

export interface ApiOperation {
  /** Tells or does what not everybody on the network may know or do. */
  readonly needsToken: boolean;
  readonly query: readonly string[];
  run(call: ApiCall): ApiAnswer | Promise<ApiAnswer>;
}

export interface ApiRoute {
  /** Segments after `/api/v1`; `*` is any name. */
  readonly path: readonly string[];
  readonly operations: Readonly<Partial<Record<ApiMethod, ApiOperation>>>;
}

export function apiRoutes(admin: AdminService): readonly ApiRoute[] {
  return [
    route('status', { GET: read(() => admin.status()) }),
    route('history', { GET: read(() => admin.history()) }),
    route('map', { GET: read(() => admin.map()) }),
    route('why', { GET: { ...read((call) => why(admin, call)), query: ['pool', 'key'] } }),
    route('plan/rebalance', { GET: read(() => admin.planRebalance()) }),
    ...poolRoutes(admin),
    ...daemonRoutes(admin),
    ...clientRoutes(admin),
  ];
}

function poolRoutes(admin: AdminService): ApiRoute[] {
  const create = ({ body, isDryRun }: ApiCall): Promise<unknown> => {
    const name = body.text('name');
    const groups = body.has('groups') ? { groups: body.count('groups') } : {};
    const settings = { ...poolSettings(body), ...groups };
    body.end();
    return admin.createPool(name, settings, isDryRun);
  };
  const change = ({ name, body, isDryRun }: ApiCall): Promise<unknown> => {
    const newName = body.has('newName') ? { newName: body.text('newName') } : {};
    const settings = { ...poolSettings(body), ...newName };
    body.end();
    return admin.setPool(name, settings, isDryRun);
  };
  return [
    route('pools', {
      GET: read(() => admin.status().pools),
      POST: planned(create, 201),
    }),
    route('pools/*', {
      GET: read(({ name }) => admin.pool(name)),
      PATCH: planned(change),
      DELETE: planned(({ name, isDryRun }) => admin.removePool(name, isDryRun)),
    }),
    route('pools/*/groups', { GET: read(({ name }) => admin.groups(name)) }),
  ];
}

function daemonRoutes(admin: AdminService): ApiRoute[] {
  return [
    route('daemons', { GET: read(() => admin.status().daemons) }),
    route('daemons/*', {
      GET: read(({ name }) => {
        const daemon = admin.status().daemons.find(({ id }) => id === daemonId(name));
        if (daemon === undefined) throw noDaemon(name);
        return daemon;
      }),
      PATCH: planned(({ name, body, isDryRun }) =>
        admin.changeDaemon(daemonId(name), daemonChange(body), isDryRun),
      ),
      DELETE: planned(({ name, isDryRun }) => admin.removeDaemon(daemonId(name), isDryRun)),
    }),
  ];
}

/** Clients and their rights are nobody's business but an administrator's; key files are shown once. */
function clientRoutes(admin: AdminService): ApiRoute[] {
  return [
    route('clients', {
      GET: { ...read(() => admin.clients()), needsToken: true },
      POST: change(async ({ body }) => {
        const name = body.text('name');
        const rights = clientRights(body, { isAdmin: false, rights: {} });
        return { status: 201, value: { keyFile: await admin.createClient(name, rights) } };
      }),
    }),
    route('clients/*', {
      PATCH: change(async ({ name, body }) => {
        await admin.setClient(name, clientRights(body, clientNamed(admin, name)));
        return { status: 204 };
      }),
      DELETE: change(async ({ name }) => {
        await admin.removeClient(name);
        return { status: 204 };
      }),
    }),
    route('clients/*/rotate', {
      POST: change(async ({ name, body }) => {
        body.end();
        return { status: 200, value: { keyFile: await admin.rotateClient(name) } };
      }),
    }),
  ];
}

function route(path: string, operations: ApiRoute['operations']): ApiRoute {
  return { path: path.split('/'), operations };
}

function read(value: (call: ApiCall) => unknown): ApiOperation {
  const run = async (call: ApiCall): Promise<ApiAnswer> => ({
    status: 200,
    value: await value(call),
  });
  return { needsToken: false, query: [], run };
}

function change(run: ApiOperation['run']): ApiOperation {
  return { needsToken: true, query: [], run };
}

/** A change that can be tried: a dry run answers 200, as nothing was created. */
function planned(plan: (call: ApiCall) => Promise<unknown>, status = 200): ApiOperation {
  const run = async (call: ApiCall): Promise<ApiAnswer> => {
    const value = await plan(call);
    return { status: call.isDryRun ? 200 : status, value };
  };
  return { needsToken: true, query: ['dryRun'], run };
}

function why(admin: AdminService, { query }: ApiCall): unknown {
  const pool = query.get('pool');
  const key = query.get('key');
  if (pool === undefined || key === undefined)
    throw new StoreError('E_INVALID', 'Ask for a pool and a key: why?pool=NAME&key=KEY');
  return admin.why(queryText(pool), queryBytes(key));
}

function poolSettings(body: JsonBody): PoolSettings {
  return {
    ...(body.has('replicas') ? { replicas: body.count('replicas') } : {}),
    ...(body.has('minReplicas') ? { minReplicas: body.count('minReplicas') } : {}),
    ...(body.has('failureDomain')
      ? { failureDomain: body.choice('failureDomain', FAILURE_DOMAINS) }
      : {}),
    ...(body.has('durability') ? { durability: body.choice('durability', DURABILITIES) } : {}),
  };
}

function daemonChange(body: JsonBody): DaemonChange {
  const change = {
    ...(body.has('membership') ? { membership: body.choice('membership', MEMBERSHIPS) } : {}),
    ...(body.has('weight') ? { weight: body.countOrNull('weight') } : {}),
  };
  body.end();
  return change;
}

/** @param present - What holds for the fields that were left out. */
function clientRights(body: JsonBody, present: ClientRights): ClientRights {
  const isAdmin = body.has('isAdmin') ? body.flag('isAdmin') : present.isAdmin;
  const rights = body.has('rights') ? body.texts('rights') : present.rights;
  body.end();
  return { isAdmin, rights };
}

function clientNamed(admin: AdminService, wanted: string): ClientStatus {
  const client = admin.clients().find(({ name }) => name === wanted);
  if (client === undefined)
    throw new StoreError(
      'E_NOT_FOUND',
      `There is no client ${JSON.stringify(wanted.slice(0, 60))}`,
    );
  return client;
}

function daemonId(name: string): number {
  if (!/^[1-9]\d{0,8}$/.test(name)) throw noDaemon(name);
  return Number(name);
}

function noDaemon(name: string): StoreError {
  return new StoreError('E_NOT_FOUND', `There is no daemon ${JSON.stringify(name.slice(0, 60))}`);
}

/** The commands of the administration as they come over the protocol: JSON in, a result that becomes JSON out. */
import {
  booleanIn,
  DURABILITIES,
  FAILURE_DOMAINS,
  MEMBERSHIPS,
  numberIn,
  StoreError,
  textIn,
  type JsonFields,
} from '@store/core';
import type { Principal } from '../server/guest.js';
import type { AdminService, ClientRights, DaemonChange, PoolSettings } from './admin-service.js';

const NAME_BYTES_MAX = 128;
const KEY_BYTES_MAX = 512;
const NUMBER_MAX: number = 2 ** 32 - 1;

interface Command {
  /** Anybody who was met may ask; else it takes an administrator. */
  readonly isOpen: boolean;
  run(service: AdminService, args: JsonFields): unknown;
}

/** By name. The results are those of `AdminService`. */
const COMMANDS: Readonly<Record<string, Command>> = {
  status: open((service) => service.status()),
  history: open((service) => service.history()),
  map: open((service) => service.map()),
  why: open((service, args) =>
    service.why(nameIn(args), Buffer.from(textIn(args, 'key', KEY_BYTES_MAX))),
  ),
  'plan rebalance': open((service) => service.planRebalance()),
  'pool info': open((service, args) => service.pool(nameIn(args))),
  'pool create': closed((service, args) =>
    service.createPool(
      nameIn(args),
      { ...settingsIn(args), ...optional(args, 'groups', number) },
      booleanIn(args, 'dryRun'),
    ),
  ),
  'pool set': closed((service, args) =>
    service.setPool(nameIn(args), settingsIn(args), booleanIn(args, 'dryRun')),
  ),
  'pool rm': closed((service, args) => service.removePool(nameIn(args), booleanIn(args, 'dryRun'))),
  'group ls': open((service, args) => service.groups(nameIn(args))),
  'group show': open((service, args) => service.group(nameIn(args), number(args, 'group'))),
  'group accept-data-loss': closed((service, args) =>
    service.acceptDataLoss(
      { pool: nameIn(args), group: number(args, 'group'), daemon: number(args, 'daemon') },
      booleanIn(args, 'dryRun'),
    ),
  ),
  'scrub start': closed((service, args) =>
    service.startScrub(poolIn(args), booleanIn(args, 'deep') ? 'deep' : 'light'),
  ),
  'scrub status': open((service, args) => service.scrubs(poolIn(args))),
  'recovery set': closed((service, args) =>
    service.setRecoveryRate(numberIn(args, 'bytesPerSecond', Number.MAX_SAFE_INTEGER)),
  ),
  'daemon set': closed((service, args) =>
    service.changeDaemon(
      numberIn(args, 'daemon', NUMBER_MAX),
      changeIn(args),
      booleanIn(args, 'dryRun'),
    ),
  ),
  'daemon rm': closed((service, args) =>
    service.removeDaemon(numberIn(args, 'daemon', NUMBER_MAX), booleanIn(args, 'dryRun')),
  ),
  'client ls': closed((service) => service.clients()),
  'client create': closed((service, args) => service.createClient(nameIn(args), rightsIn(args))),
  'client set': closed((service, args) => service.setClient(nameIn(args), rightsIn(args))),
  'client rotate': closed((service, args) => service.rotateClient(nameIn(args))),
  'client rm': closed((service, args) => service.removeClient(nameIn(args))),
};

/** @throws StoreError `E_DENIED`; `E_INVALID` for what there is not; what the command says */
export async function runAdminCommand(
  service: AdminService,
  principal: Principal,
  fields: JsonFields,
): Promise<unknown> {
  const name = textIn(fields, 'command', NAME_BYTES_MAX);
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (command === undefined)
    throw new StoreError(
      'E_INVALID',
      `This master knows no command '${name}'; use programs of one release`,
    );
  if (!command.isOpen && !principal.isAdmin)
    throw new StoreError(
      'E_DENIED',
      `${principal.name} may not administer the cluster; use the key of an administrator (--client-key)`,
    );
  return await command.run(service, fields);
}

function open(run: Command['run']): Command {
  return { isOpen: true, run };
}

function closed(run: Command['run']): Command {
  return { isOpen: false, run };
}

/** Null: all pools. */
function poolIn(args: JsonFields): string | null {
  return args['pool'] === undefined ? null : textIn(args, 'pool', NAME_BYTES_MAX);
}

function nameIn(args: JsonFields): string {
  return textIn(args, 'name', NAME_BYTES_MAX);
}

function number(args: JsonFields, field: string): number {
  return numberIn(args, field, NUMBER_MAX);
}

/** `{ field: value }` if it is there. */
function optional<K extends string, T>(
  args: JsonFields,
  field: K,
  read: (args: JsonFields, field: K) => T,
): Partial<Record<K, T>> {
  if (args[field] === undefined) return {};
  return { [field]: read(args, field) } as Partial<Record<K, T>>; // the one field
}

function oneOf<T extends string>(list: readonly T[]): (args: JsonFields, field: string) => T {
  return (args, field) => {
    const text = textIn(args, field, NAME_BYTES_MAX);
    const found = list.find((one) => one === text);
    if (found !== undefined) return found;
    throw new StoreError('E_INVALID', `'${field}' is ${list.join(', ')}, not '${text}'`);
  };
}

function settingsIn(args: JsonFields): PoolSettings {
  return {
    ...optional(args, 'replicas', number),
    ...optional(args, 'minReplicas', number),
    ...optional(args, 'failureDomain', oneOf(FAILURE_DOMAINS)),
    ...optional(args, 'durability', oneOf(DURABILITIES)),
  };
}

function changeIn(args: JsonFields): DaemonChange {
  const weight = args['weight'] === null ? { weight: null } : optional(args, 'weight', number);
  return { ...weight, ...optional(args, 'membership', oneOf(MEMBERSHIPS)) };
}

function rightsIn(args: JsonFields): ClientRights {
  const rights = args['rights'];
  if (typeof rights !== 'object' || rights === null)
    throw new StoreError('E_BAD_FRAME', "Field 'rights' of a message is no object");
  const fields = rights as JsonFields; // an object that JSON.parse made has text as keys
  return {
    isAdmin: booleanIn(args, 'isAdmin'),
    rights: Object.fromEntries(
      Object.keys(fields).map((pool) => [pool, textIn(fields, pool, NAME_BYTES_MAX)]),
    ),
  };
}

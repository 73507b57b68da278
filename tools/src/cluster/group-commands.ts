/** `store group`: the groups of a pool, and the last resort for one that cannot go on. */
import type { GroupStatus } from '@store/core';
import { StoreError, switchSetting } from '@store/core';
import type { Command } from 'commander';
import { handles, type Context } from '../program.js';
import { UsageError } from '../usage-error.js';
import { addAdminFlags, answer, look, withMaster } from './ask-master.js';
import { addChangeFlags, makeChanges } from './make-changes.js';
import { poolNamed } from './pool-commands.js';
import { groupFacts, groupTable } from './print-groups.js';

const GROUP_MAX = 65_535;
const DAEMON_ID_MAX: number = 2 ** 32 - 1;

/** Instead of numbers of groups. */
const ALL = 'all';

const unwellSetting = switchSetting('unwell');

/** Adds the commands to `program`. */
export function addGroupCommands(program: Command): void {
  const group = program
    .command('group')
    .description('the groups of a pool: the parts that are placed on daemons');
  addList(group);
  addShow(group);
  addAcceptDataLoss(group);
}

function addList(group: Command): void {
  const ls = group
    .command('ls')
    .description('list the groups of a pool, and who has copies of them')
    .argument('[pool]', 'the pool')
    .option('--unwell', 'only those that are not ok')
    .addHelpText(
      'after',
      `
ok: all copies are in sync. joining: one more is being made. degraded: there are too few. read-only: too few to
write. down: no copy in sync runs.

Example:
  store group ls vms --unwell --master 127.0.0.1:4010`,
    );
  addAdminFlags(ls);
  handles(ls, async (context, [positional]) => {
    const name = poolNamed(ls, positional);
    const groups = await withMaster(context, (guide) =>
      look<GroupStatus[]>(guide, 'group ls', { name }),
    );
    const shown = context.get(unwellSetting)
      ? groups.filter(({ state }) => state !== 'ok')
      : groups;
    answer(context, shown, (list) => (list.length === 0 ? 'All groups are ok' : groupTable(list)));
  });
}

function addShow(group: Command): void {
  const show = group
    .command('show')
    .description('say all about a group')
    .argument('<pool>', 'the pool')
    .argument('<group>', 'its number, from 0 on')
    .addHelpText('after', '\nExample:\n  store group show vms 12 --master 127.0.0.1:4010');
  addAdminFlags(show);
  handles(show, async (context, [pool, number]) => {
    const args = { name: poolNamed(show, pool), group: groupIn(number) };
    const found = await withMaster(context, (guide) =>
      look<GroupStatus>(guide, 'group show', args),
    );
    answer(context, found, groupFacts);
  });
}

function addAcceptDataLoss(group: Command): void {
  const accept = group
    .command('accept-data-loss')
    .description('have groups go on with a copy that is not in sync: what it lacks is gone')
    .argument('<pool>', 'the pool')
    .argument('<groups...>', 'their numbers, from 0 on; all: each that is down and has such a copy')
    .requiredOption(
      '--daemon <id>',
      'a member of the groups that runs: the groups go on with its copies',
    )
    .addHelpText(
      'after',
      `
The last resort, when all daemons with an in-sync copy are lost for good: make sure that none of them runs, cut off from
the masters. Everything that was written since the copy was last in sync is gone, also what was flushed: images made since
may be gone, removed ones be back. Every open image of the pool fails its next flush once, so that filesystems notice. It
is remembered, and shown by store status. Which copies there are says: store group show. What would be lost says: --dry-run.
Until there are --min-replicas copies again the group can only be read: add daemons, or see store pool set --help.

Example:
  store group accept-data-loss vms 12 --daemon 3 --master 127.0.0.1:4010
  store group accept-data-loss vms all --daemon 3 --dry-run --master 127.0.0.1:4010`,
    );
  addChangeFlags(accept, { plans: false, asks: true });
  handles(accept, async (context, [pool, ...numbers]) => {
    const name = poolNamed(accept, pool);
    const { daemon: text } = accept.opts<{ daemon: string }>();
    const daemon = /^\d+$/.test(text) ? Number(text) : 0;
    if (daemon < 1 || daemon > DAEMON_ID_MAX)
      throw new UsageError(
        `'${text}' is not the number of a daemon; the members of a group are in: store group show`,
      );
    const isAll = numbers.length === 1 && numbers[0] === ALL;
    const groups = isAll
      ? await groupsDown(context, name, daemon)
      : [...new Set(numbers.map(groupIn))];
    const changes = groups.map((group) => ({
      command: 'group accept-data-loss',
      args: { name, group, daemon },
    }));
    await makeChanges(context, changes, { plans: false, consent: { kind: 'name', name } });
  });
}

/** Groups that are down, and have a copy at that daemon that is not in sync. */
async function groupsDown(context: Context, name: string, daemon: number): Promise<number[]> {
  const groups = await withMaster(context, (guide) =>
    look<GroupStatus[]>(guide, 'group ls', { name }),
  );
  const found = groups.filter(
    ({ state, members }) =>
      state === 'down' &&
      members.some((member) => member.daemon === daemon && member.role === 'joining'),
  );
  if (found.length > 0) return found.map(({ group }) => group);
  throw new StoreError(
    'E_NOT_FOUND',
    `No group of pool '${name}' is down and has a copy on daemon ${daemon} that is not in sync; see store group ls ${name} --unwell. After the start of a master it takes some seconds until it knows who is down`,
  );
}

function groupIn(text = ''): number {
  const number = /^\d+$/.test(text) ? Number(text) : -1;
  if (number >= 0 && number <= GROUP_MAX) return number;
  throw new UsageError(`'${text}' is not the number of a group; they are in: store group ls`);
}

/** `store map` and `store why`: where everything lies. */
import { StoreError, textSetting, type WhyAnswer } from '@store/core';
import type { Command } from 'commander';
import { handles } from '../program.js';
import { UsageError } from '../usage-error.js';
import { addAdminFlags, answer, look, withMaster } from './ask-master.js';
import { poolNamed } from './pool-commands.js';
import { groupTable, mapText, whyText } from './print-map.js';

const groupsSetting = textSetting('groups', null);

/** Adds the commands to `program`. */
export function addMapCommands(program: Command): void {
  addShow(program.command('map').description('the storage map: which daemons hold what'));
  addWhy(program);
}

function addShow(map: Command): void {
  const show = map
    .command('show')
    .description('the map as it is now: its version, daemons, and how pools are spread over them')
    .option('--groups <pool>', 'list each group of this pool, and who holds it')
    .addHelpText(
      'after',
      `
Example:
  store map show --master 127.0.0.1:4010
  store map show --groups vms --master 127.0.0.1:4010`,
    );
  addAdminFlags(show);
  handles(show, async (context) => {
    const poolName = context.get(groupsSetting);
    // Whoever is let in gets the map, at once and with each change.
    const found = await withMaster(context, (guide) => Promise.resolve(guide.view.map));
    if (poolName === null) {
      answer(context, found, mapText);
      return;
    }
    const pool = found.pools.find(({ name }) => name === poolName);
    if (pool === undefined)
      throw new StoreError('E_NOT_FOUND', `There is no pool '${poolName}'; see store pool ls`);
    answer(context, pool, groupTable);
  });
}

function addWhy(program: Command): void {
  const why = program
    .command('why')
    .description('say where an object lies, and why there')
    .argument('<pool-and-key...>', 'the pool, then the key of the object')
    .usage('[options] <pool> <key>')
    .addHelpText('after', '\nExample:\n  store why vms testobj --master 127.0.0.1:4010');
  addAdminFlags(why);
  handles(why, async (context, words) => {
    const [key, pool, ...more] = words.toReversed();
    if (key === undefined || more.length > 0)
      throw new UsageError('Name a pool and one key: store why POOL KEY');
    if (key === '') throw new UsageError('The key is empty');
    const name = poolNamed(why, pool);
    const found = await withMaster(context, (guide) =>
      look<WhyAnswer>(guide, 'why', { name, key }),
    );
    answer(context, found, whyText);
  });
}

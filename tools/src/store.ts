/** The program `store`: everything about a store and its cluster but images and their gateways. */
import { addCertCommands } from './cert-commands.js';
import { addCheckCommand } from './check-command.js';
import { newProgram } from './common-options.js';
import { addClusterCommands } from './cluster/cluster-commands.js';
import { addDevCommand } from './cluster/dev-command.js';
import { addMasterCommand } from './cluster/master-command.js';
import { addFileStoreCommand } from './file-store-command.js';
import { addKeyCommands } from './key-commands.js';
import { addObjectCommands } from './object-commands.js';
import { runProgram } from './program.js';

const program = newProgram('store', 'Reads, writes and looks after what a pool holds').addHelpText(
  'after',
  `
Every flag can also be given as an environment variable (STORE_POOL for --pool) or in the --config file.

Example:
  store write --pool testpool testobj --data-literal "hello world"
  store read --pool testpool testobj
  store status --master 127.0.0.1:4010`,
);
addObjectCommands(program);
addCheckCommand(program);
addFileStoreCommand(program);
addMasterCommand(program);
addClusterCommands(program);
addDevCommand(program);
addKeyCommands(program);
addCertCommands(program);

await runProgram(program);

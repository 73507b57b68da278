import { Command } from 'commander';

const VERSION = '0.1.0';

/** A program or command with the flags that all of them take. */
export function newProgram(name: string, description: string): Command {
  return new Command(name)
    .description(description)
    .version(VERSION, '-V, --version')
    .helpOption('-h, --help', 'say how it is used')
    .option('--dir <folder>', 'where the data is kept (default: ./store-data)')
    .option('--pool <name>', 'the pool to use (default: default)')
    .option('--config <file>', 'JSON file with a default for any of these flags')
    .option('--log-format <format>', 'log as text or json (default: text on a terminal)')
    .option('--json', 'print JSON')
    .option('-v, --verbose', 'log what is going on in detail');
}

/**
 * What all programs have in common: how a command line becomes settings, where errors go, what a signal does, and
 * what the exit code says. 0 done, 1 failed, 2 bad usage, 70 our bug or a failed disk.
 *
 * An error a user can meet is one line on standard error that says what to do. Anything else that is thrown is a
 * defect of ours; nobody knows what state it left, so the process ends at once.
 */
import { readFileSync } from 'node:fs';
import {
  Configuration,
  DiskError,
  exitNow,
  messageOf,
  parseConfigFile,
  realEnv,
  realLog,
  StoreError,
  type ConfigFile,
  type Env,
  type Log,
  type Setting,
} from '@store/core';
import { Command, CommanderError } from 'commander';
import { SETTING_NAMES, SETTINGS } from './settings.js';
import { UsageError } from './usage-error.js';

export const EXIT = { done: 0, failed: 1, usage: 2, defect: 70 } as const;

/** What a command gets. */
export interface Context {
  /** The value of a setting. @throws UsageError naming the place a bad value came from */
  get<T>(setting: Setting<T>): T;
  /** Where a setting was given, for messages: `--dir`; null if it was not. */
  placeOf(setting: Setting<unknown>): string | null;
  /** What runs: `store-nbd`. */
  readonly program: string;
  readonly env: Env;
  readonly log: Log;
  /** Aborted by the first SIGINT or SIGTERM: finish what was answered, then return. */
  readonly stop: AbortSignal;
  /** Prints data for people or programs. */
  print(text: string): void;
}

export type Handler = (context: Context, positional: readonly string[]) => Promise<void>;

/** Runs the command given on the command line and ends the process. */
export async function runProgram(program: Command): Promise<never> {
  const name = program.name();
  prepare(program);
  const output = watchOutput();
  try {
    refuseDamagedText(process.argv.slice(2), process.env);
    await program.parseAsync();
    await output.finish();
    process.exit(EXIT.done);
  } catch (error) {
    process.exit(report(name, error));
  }
}

/**
 * Bytes that are no UTF-8 become U+FFFD before we see them, so different names would be one, and one object overwritten as
 * another.
 * @throws UsageError
 */
function refuseDamagedText(args: readonly string[], environment: NodeJS.ProcessEnv): void {
  const problem = (what: string): UsageError =>
    new UsageError(
      `${what} is not valid UTF-8 (or contains the character U+FFFD, which stands for that); write it in UTF-8, and data of other kinds with --data-file`,
    );
  const damaged = args.find((argument) => argument.includes('\ufffd'));
  if (damaged !== undefined) throw problem(`'${damaged}'`);
  for (const [name, value] of Object.entries(environment))
    if (name.startsWith('STORE_') && value?.includes('\ufffd') === true) throw problem(name);
}

/** What is printed must have left before the process ends, or the user must hear that it did not. */
function watchOutput(): { finish: () => Promise<void> } {
  let failure: NodeJS.ErrnoException | null = null;
  process.stdout.on('error', (error) => {
    failure ??= error;
  });
  return {
    async finish() {
      await new Promise<void>((resolve) => {
        process.stdout.write('', () => resolve());
      });
      // A reader that goes away (`| head`) is no error of ours.
      if (failure !== null && failure.code !== 'EPIPE')
        throw new StoreError('E_SYSTEM', `The output could not be written: ${failure.message}`, {
          cause: failure,
        });
    },
  };
}

/** Makes `handler` what `command` does. */
export function handles(command: Command, handler: Handler): Command {
  return command.action(async (...received: unknown[]) => {
    const positional = received.flat().filter((one) => typeof one === 'string');
    const context = makeContext(command);
    await handler(context, positional);
  });
}

/** Ends the process: what happened may have left anything in any state. */
export function dieOf(log: Log, error: unknown): never {
  log.fatal({ err: error }, 'Stopping at once');
  process.exit(EXIT.defect);
}

/** How long a process whose disk has failed goes on: the clients' answers shall leave it. */
const LAST_ANSWERS_MS = 250;

/** This process met the failure; a folder that failed earlier is only refused. */
let diskHasFailed = false;

/** The disk failed: everything is answered with an error from now on, and soon this ends with 70. */
export function dieOfDisk(log: Log, error: StoreError): void {
  log.fatal({ code: error.code }, error.message);
  diskHasFailed = true;
  setTimeout(() => exitNow(EXIT.defect), LAST_ANSWERS_MS);
}

function makeContext(command: Command): Context {
  const flags = flagsOf(command);
  const configPath = flags.get('config') ?? process.env['STORE_CONFIG'];
  const config = asUsage(() => {
    const file = configPath === undefined || configPath === '' ? null : readConfig(configPath);
    return new Configuration({ flags, environment: process.env, file });
  });
  verbose = asUsage(() => config.get(SETTINGS.verbose));
  const format = asUsage(() => config.get(SETTINGS.logFormat));
  const log = realLog({ debug: verbose, format, isTerminal: process.stderr.isTTY });
  for (const event of ['uncaughtException', 'unhandledRejection'])
    process.on(event, (error: unknown) => dieOf(log, error));
  const print = (text: string): void => {
    process.stdout.write(`${text}\n`);
  };
  const get = <T>(setting: Setting<T>): T => asUsage(() => config.get(setting));
  const placeOf = (setting: Setting<unknown>): string | null => config.placeOf(setting);
  const program = nameOf(command);
  return { get, placeOf, program, env: realEnv(log), log, stop: stopSignal(log), print };
}

/** Set once the settings are known; decides whether errors show where they come from. */
let verbose = process.argv.includes('-v') || process.argv.includes('--verbose');

/** What `work` finds wrong is the user's to mend. */
export function asUsage<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
    throw new UsageError(error.message, { cause: error });
  }
}

function pathOf(command: Command): string {
  return command.parent === null ? command.name() : `${pathOf(command.parent)} ${command.name()}`;
}

function nameOf(command: Command): string {
  return command.parent === null ? command.name() : nameOf(command.parent);
}

function flagsOf(command: Command): Map<string, string> {
  const flags = new Map<string, string>();
  for (let at: Command | null = command; at !== null; at = at.parent)
    for (const option of at.options) {
      const value: unknown = at.getOptionValue(option.attributeName());
      if (typeof value === 'string') flags.set(option.name(), value);
      else if (value === true) flags.set(option.name(), 'true');
    }
  return flags;
}

function readConfig(path: string): ConfigFile {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw new UsageError(`Cannot read the configuration file: ${messageOf(error)}`, {
      cause: error,
    });
  }
  return parseConfigFile(path, text, SETTING_NAMES);
}

/** The first signal asks to stop, the second does not ask. */
function stopSignal(log: Log): AbortSignal {
  const controller = new AbortController();
  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)
    process.on(signal, () => {
      // Not by Node's own way out: it waits for threads, and one of them may be in the middle of a commit.
      if (controller.signal.aborted) exitNow(code);
      log.info({ signal }, 'Stopping; a second signal stops at once');
      controller.abort();
    });
  return controller.signal;
}

/** Of the command whose line could not be read: `store group ls`. */
let misread: string | null = null;

function prepare(command: Command): void {
  command.configureHelp({ showGlobalOptions: true });
  command.exitOverride((error) => {
    misread = pathOf(command);
    throw error;
  });
  // Errors are said in one line, by `report`.
  command.configureOutput({ writeErr: () => undefined, outputError: () => undefined });
  for (const child of command.commands) prepare(child);
}

/** Says what went wrong. @returns The exit code */
function report(program: string, error: unknown): number {
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) return EXIT.done; // --help, --version
    const text = error.code === 'commander.help' ? 'Give a command' : error.message;
    say(program, `${sentence(text).replace(/\.$/, '')}; see ${misread ?? program} --help`);
    return EXIT.usage;
  }
  const expected =
    error instanceof UsageError || error instanceof StoreError || error instanceof DiskError;
  if (expected) {
    say(program, error.message);
    if (verbose) process.stderr.write(`${String(error.stack)}\n`);
    if (error instanceof UsageError) return EXIT.usage;
    return diskHasFailed ? EXIT.defect : EXIT.failed;
  }
  say(program, `Internal error: ${messageOf(error)}; please report it with what -v says`);
  if (verbose && error instanceof Error) process.stderr.write(`${String(error.stack)}\n`);
  return EXIT.defect;
}

function say(program: string, text: string): void {
  process.stderr.write(`${program}: ${text.replace(/\p{Cc}+/gu, ' ')}\n`);
}

/** `error: unknown option '--x'` becomes `Unknown option '--x'`. */
function sentence(text: string): string {
  const bare = text.replace(/^error: /, '').replace(/\s+/g, ' ');
  return bare.charAt(0).toUpperCase() + bare.slice(1);
}

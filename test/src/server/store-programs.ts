import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { CommandOptions, CommandResult } from '../host/command.js';
import { runAnyway } from '../host/command.js';

/** The repository. */
export const repositoryFolder: string = resolve(
  fileURLToPath(new URL('../../..', import.meta.url)),
);

/** Where the programs people run are linked after a build. */
export function programPath(name: 'store' | 'store-nbd' | 'store-image'): string {
  return join(repositoryFolder, 'node_modules', '.bin', name);
}

/** Runs one of the programs to its end. */
export function runProgram(
  name: 'store' | 'store-nbd' | 'store-image',
  args: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  return runAnyway(programPath(name), args, options);
}

/** As {@link runProgram}; it must succeed. @returns What it printed. */
export async function runProgramWell(
  name: 'store' | 'store-nbd' | 'store-image',
  args: readonly string[],
  options: CommandOptions = {},
): Promise<string> {
  const { code, stdout, stderr } = await runProgram(name, args, options);
  if (code !== 0) throw new Error(`${name} ${args.join(' ')} exited with ${code}\n${stderr}`);
  return stdout;
}

/** What the figures were made on: without that they mean nothing to anybody else. */
import { readFileSync } from 'node:fs';
import { arch, availableParallelism, cpus, loadavg, release, totalmem } from 'node:os';
import { isInstalled, runAnyway } from '../host/command.js';
import { repositoryFolder } from '../server/store-programs.js';

export interface Machine {
  readonly date: string;
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGib: number;
  readonly system: string;
  readonly kernel: string;
  /** Of the images: file system and device. */
  readonly disk: string;
  readonly node: string;
  /** Of this repository; null outside of one. */
  readonly commit: string | null;
  /** Runnable processes before the run, mean of a minute. */
  readonly loadBefore: number;
}

/** @param folder - Where the images will be. */
export async function machineFacts(folder: string): Promise<Machine> {
  const commit = await firstLine('git', [
    ...['-C', repositoryFolder, 'describe', '--always', '--dirty', '--exclude=*'],
  ]);
  const disk = await firstLine('findmnt', ['--noheadings', '-o', 'FSTYPE,SOURCE', '-T', folder]);
  return {
    date: new Date().toISOString().slice(0, 16).replace('T', ' ') + ' UTC',
    cpu: cpus()[0]?.model.trim() ?? arch(),
    cores: availableParallelism(),
    memoryGib: Math.round(totalmem() / 1024 ** 3),
    system: systemName(),
    kernel: release(),
    disk: disk?.replace(/\s+/g, ' on ') ?? 'unknown disk',
    node: process.version,
    commit,
    loadBefore: Number((loadavg()[0] ?? 0).toFixed(2)),
  };
}

/** The line a program answers `--version` with; null if it is not there or does not know. */
export async function versionOf(program: string): Promise<string | null> {
  const line = await firstLine(program, program === 'nbd-server' ? ['-V'] : ['--version']);
  return line === null ? null : (/\d+(\.\d+)+/.exec(line)?.[0] ?? line);
}

/** In one line, for titles. */
export function describeMachine(machine: Machine): string {
  const { cpu, cores, system, kernel, disk, node } = machine;
  return `${cpu}, ${cores} cores, ${system}, Linux ${kernel}, ${disk}, node ${node}`;
}

async function firstLine(program: string, args: readonly string[]): Promise<string | null> {
  if (!isInstalled(program)) return null;
  const { code, stdout, stderr } = await runAnyway(program, args, { limitMs: 10_000 });
  const [line = ''] = (stdout.trim() === '' ? stderr : stdout).trim().split('\n');
  return code === 0 && line !== '' ? line : null;
}

function systemName(): string {
  const text = readFileSync('/etc/os-release', 'utf8');
  return /^PRETTY_NAME="?([^"\n]*)/m.exec(text)?.[1] ?? 'Linux';
}

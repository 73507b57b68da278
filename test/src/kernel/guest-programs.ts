/**
 * The programs of this repository for a guest, as a disk image: node with its libraries, our compiled packages and what
 * they need at run time. The guest mounts it read-only; node finds its libraries there through LD_LIBRARY_PATH.
 */
import { existsSync, mkdirSync, readFileSync, realpathSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { run } from '../host/command.js';
import { repositoryFolder } from '../server/store-programs.js';
import { copyProgram } from './guest-image.js';

interface Manifest {
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

/** @returns An ext4 image, a file in `folder` */
export async function buildGuestPrograms(folder: string): Promise<string> {
  const root = join(folder, 'programs');
  const target = join(root, 'store');
  mkdirSync(join(target, 'node_modules', '@store'), { recursive: true });
  await copyProgram(process.execPath, root);
  await run('ln', ['-s', `.${process.execPath}`, join(root, 'node')]);
  for (const path of packagesFrom(join(repositoryFolder, 'tools'))) {
    const place = join(target, relative(repositoryFolder, path));
    mkdirSync(dirname(place), { recursive: true });
    await run('cp', ['-a', '--no-target-directory', path, place]);
  }
  for (const name of ['core', 'daemon', 'gateway-nbd', 'tools'])
    await run('ln', ['-s', `../../${name}`, join(target, 'node_modules', '@store', name)]);
  mkdirSync(join(target, 'test', 'dist', 'kernel'), { recursive: true });
  await run('cp', [
    join(repositoryFolder, 'test', 'package.json'),
    join(target, 'test', 'package.json'),
  ]);
  await run('cp', [
    join(repositoryFolder, 'test', 'dist', 'kernel', 'guest-writer.js'),
    join(target, 'test', 'dist', 'kernel'),
  ]);
  const image = join(folder, 'programs.img');
  const bytes = Number((await run('du', ['-sb', root])).split('\t')[0]);
  const mib = Math.ceil((bytes * 1.25) / 1024 ** 2) + 32;
  await run('mke2fs', ['-q', '-t', 'ext4', '-O', '^has_journal', '-d', root, image, `${mib}M`]);
  return image;
}

/** The folders of a package and of everything it needs at run time, found as Node finds them. */
function packagesFrom(start: string): ReadonlySet<string> {
  const found = new Set<string>();
  const add = (folder: string): void => {
    if (found.has(folder)) return;
    found.add(folder);
    const manifest = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Manifest;
    for (const name of Object.keys(manifest.dependencies ?? {})) {
      const path = resolvePackage(folder, name);
      if (path === null) throw new Error(`${folder} needs ${name}, which is not installed`);
      add(path);
    }
    for (const name of Object.keys(manifest.optionalDependencies ?? {})) {
      const path = resolvePackage(folder, name);
      if (path !== null) add(path); // those of other machines are not installed
    }
  };
  add(start);
  return found;
}

function resolvePackage(from: string, name: string): string | null {
  for (let folder = from; ; folder = dirname(folder)) {
    const path = join(folder, 'node_modules', name);
    if (existsSync(join(path, 'package.json'))) return realpathSync(path);
    if (folder === dirname(folder)) return null;
  }
}

import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { run, runAnyway } from '../host/command.js';
import { repositoryFolder } from '../server/store-programs.js';

/** A kernel and its modules, unpacked. */
export interface GuestKernel {
  /** The bootable image. */
  readonly image: string;
  /** `…/lib/modules/6.1.0-56-cloud-amd64` */
  readonly modules: string;
}

/** Debian's kernel for virtual machines: small, and ext4 is built in. */
const METAPACKAGE = 'linux-image-cloud-amd64';
const CACHE = join(repositoryFolder, '.cache', 'kernel');
const DOWNLOAD_MS = 180_000;

/** Downloads Debian's kernel and unpacks it into a cache; the machine's own kernel is not touched. */
export async function guestKernel(): Promise<GuestKernel> {
  const root = join(CACHE, 'root');
  if (!existsSync(root)) await unpackInto(root);
  const version = readdirSync(join(root, 'lib', 'modules'))[0];
  if (version === undefined)
    throw new Error(`no kernel modules in ${root}; remove it and try again`);
  return {
    image: join(root, 'boot', `vmlinuz-${version}`),
    modules: join(root, 'lib', 'modules', version),
  };
}

async function unpackInto(root: string): Promise<void> {
  mkdirSync(CACHE, { recursive: true });
  const package_ = (await kernelPackage()) ?? (await kernelPackageAfterUpdate());
  await run('apt-get', ['download', '-q', package_], { cwd: CACHE, limitMs: DOWNLOAD_MS });
  const file = readdirSync(CACHE).find((name) => name.startsWith(`${package_}_`));
  if (file === undefined) throw new Error(`apt-get download ${package_} left no file`);
  const unfinished = `${root}.unfinished`;
  rmSync(unfinished, { recursive: true, force: true });
  await run('dpkg-deb', ['-x', join(CACHE, file), unfinished]);
  for (const version of readdirSync(join(unfinished, 'lib', 'modules')))
    await run('/sbin/depmod', ['-b', unfinished, version]);
  rmSync(join(CACHE, file));
  renameSync(unfinished, root);
}

/** The package that holds the newest kernel; null if apt has no lists yet. */
async function kernelPackage(): Promise<string | null> {
  const { stdout } = await runAnyway('apt-cache', ['depends', METAPACKAGE]);
  return /Depends: (linux-image-\S+)/.exec(stdout)?.[1] ?? null;
}

async function kernelPackageAfterUpdate(): Promise<string> {
  await run('apt-get', ['update', '-q'], { limitMs: DOWNLOAD_MS });
  const package_ = await kernelPackage();
  if (package_ === null) throw new Error(`apt knows no package ${METAPACKAGE}`);
  return package_;
}

/**
 * The files of modules and of what they depend on, in an order in which they can be loaded.
 * @throws Error if a module is neither there nor built in
 */
export function moduleFiles(kernel: GuestKernel, names: readonly string[]): string[] {
  const builtIn = readFileSync(join(kernel.modules, 'modules.builtin'), 'utf8').split('\n');
  const dependencies = new Map<string, readonly string[]>();
  for (const line of readFileSync(join(kernel.modules, 'modules.dep'), 'utf8').split('\n')) {
    const [file = '', needed = ''] = line.split(':');
    dependencies.set(file, needed.trim().split(' ').filter(Boolean));
  }
  const isNamed = (file: string, name: string): boolean => file.endsWith(`/${name}.ko`);
  const ordered = new Set<string>();
  const add = (file: string): void => {
    for (const needed of dependencies.get(file) ?? []) add(needed);
    ordered.add(file);
  };
  for (const name of names) {
    const file = [...dependencies.keys()].find((path) => isNamed(path, name));
    if (file !== undefined) add(file);
    else if (!builtIn.some((path) => isNamed(path, name)))
      throw new Error(`this kernel has no module ${name}`);
  }
  return [...ordered].map((file) => join(kernel.modules, file));
}

/**
 * Part of `make build`: makes a few files of each program. Node takes longer to find and link 450 modules than most commands
 * take to do their work (0.67 s of processor for `store --version`, 0.26 s bundled). Libraries stay outside, they bring
 * native code. A bundle that is older than the modules is not used; see bin/start.js, which has the same list.
 */
import { existsSync, mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build, type OutputFile, type Plugin } from 'esbuild';

const PROGRAMS = ['store', 'store-nbd', 'store-image'];
const PACKAGES = ['core', 'daemon', 'master', 'gateway-nbd', 'tools'];
const OURS = '@store/';

/** A module that looks for files beside itself goes on finding them. */
const ownUrls: Plugin = {
  name: 'own-urls',
  setup(builder) {
    builder.onLoad({ filter: /\.js$/ }, ({ path }) => {
      const text = readFileSync(path, 'utf8');
      if (!text.includes('import.meta.url')) return null;
      const place = JSON.stringify(relative(bundle, path));
      const contents = text.replaceAll(
        'import.meta.url',
        `new URL(${place}, import.meta.url).href`,
      );
      return { contents, loader: 'js' };
    });
  },
};

const modules: string = dirname(fileURLToPath(import.meta.url));
const root: string = join(modules, '../..');
const bundle: string = join(modules, 'bundle');
if (!isUpToDate()) await bundlePrograms();

function isUpToDate(): boolean {
  const entries = PROGRAMS.map((program) => join(bundle, `${program}.js`));
  if (!entries.every(existsSync)) return false;
  const oldest = Math.min(...entries.map(modifiedAt));
  return PACKAGES.every((name) => modifiedAt(join(root, name, 'dist/.tsbuildinfo')) <= oldest);
}

async function bundlePrograms(): Promise<void> {
  const { outputFiles } = await build({
    entryPoints: PROGRAMS.map((program) => join(modules, `${program}.js`)),
    outdir: bundle,
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    sourcemap: true,
    external: librariesOf(PACKAGES),
    plugins: [ownUrls],
    write: false,
    logLevel: 'warning',
  });
  mkdirSync(bundle, { recursive: true });
  const isEntry = ({ path }: OutputFile): boolean =>
    PROGRAMS.some((program) => path === join(bundle, `${program}.js`));
  // Who starts meanwhile finds all of one build. Pieces of older ones stay: a server that runs may still load one.
  for (const file of outputFiles.filter((one) => !isEntry(one))) put(file);
  for (const file of outputFiles.filter(isEntry)) put(file);
}

function put({ path, contents }: OutputFile): void {
  writeFileSync(`${path}.new`, contents);
  renameSync(`${path}.new`, path);
}

/** What the packages depend on, but for each other. */
function librariesOf(packages: readonly string[]): string[] {
  const names = packages.flatMap((name) => {
    const text = readFileSync(join(root, name, 'package.json'), 'utf8');
    const { dependencies = {} } = JSON.parse(text) as { dependencies?: Record<string, string> };
    return Object.keys(dependencies);
  });
  return [...new Set(names)].filter((name) => !name.startsWith(OURS));
}

function modifiedAt(path: string): number {
  return statSync(path).mtimeMs;
}

/**
 * Part of `make build`: makes a few files of each program. Node takes longer to find and link 450 modules than most commands
 * take to do their work (0.67 s of processor for `store --version`, 0.27 s bundled). Libraries stay outside, they bring
 * native code. The bundle says which modules it is made of, and is not used when there are others; see bin/build-mark.js.
 */
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build, type OutputFile, type Plugin } from 'esbuild';

interface BuildMark {
  readonly PACKAGES: readonly string[];
  readonly PROGRAMS: readonly string[];
  readonly MARK_FILE: string;
  readonly buildMark: () => string | null;
  readonly bundleOf: (program: string) => string;
}

const OURS = '@store/';
/** Pieces of older builds stay so long: a server that runs may still load one. */
const KEPT_MS: number = 7 * 24 * 60 * 60 * 1000;

const { PACKAGES, PROGRAMS, MARK_FILE, buildMark, bundleOf } = createRequire(import.meta.url)(
  '../bin/build-mark.js',
) as BuildMark; // CommonJS, as it is what programs start with

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
const bundle: string = dirname(MARK_FILE);
// Again if somebody compiled meanwhile.
while (!isUpToDate()) await bundlePrograms();

function isUpToDate(): boolean {
  return existsSync(MARK_FILE) && readFileSync(MARK_FILE, 'utf8') === buildMark();
}

async function bundlePrograms(): Promise<void> {
  const mark = buildMark();
  if (mark === null) throw new Error("Nothing is compiled yet; run 'make build'");
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
  // Who starts meanwhile finds all of one build.
  const entries = new Set(PROGRAMS.map(bundleOf));
  const isEntry = ({ path }: OutputFile): boolean => entries.has(path);
  for (const { path, contents } of outputFiles.filter((one) => !isEntry(one))) put(path, contents);
  for (const { path, contents } of outputFiles.filter(isEntry)) put(path, contents);
  put(MARK_FILE, mark);
  removeOld(new Set([MARK_FILE, ...outputFiles.map(({ path }) => path)]));
}

function put(path: string, contents: string | Uint8Array): void {
  const half = `${path}.${process.pid}`;
  writeFileSync(half, contents);
  renameSync(half, path);
}

function removeOld(present: ReadonlySet<string>): void {
  for (const path of readdirSync(bundle).map((name) => join(bundle, name)))
    if (!present.has(path) && statSync(path).mtimeMs < Date.now() - KEPT_MS)
      rmSync(path, { force: true });
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

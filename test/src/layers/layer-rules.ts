/**
 * Who may import whom. Between packages: `core <- daemon, master, gateway-* <- tools <- test`; inside core:
 * `util <- env <- pool, auth, map <- wire <- client, control <- image, cluster`. Neither npm workspaces nor the compiler's project
 * references keep a gateway from importing the daemon, or a low layer from reaching up: this does.
 */

/** Each package and what it may import of ours. A gateway is any `gateway-*`. */
const PACKAGES: Readonly<Record<string, readonly string[]>> = {
  core: [],
  daemon: ['core'],
  master: ['core'],
  gateway: ['core'],
  tools: ['core', 'daemon', 'master', 'gateway'],
  test: ['core', 'daemon', 'master', 'gateway', 'tools'],
};

/**
 * The areas of core, from the bottom; an area may import from those in lower rows and from its own row's
 * own folder. `pool` (the interface all stores implement), `config` and `sim` (the simulated `Env`) stand on `env`.
 */
const CORE_ROWS: readonly (readonly string[])[] = [
  ['util'],
  ['env'],
  ['pool', 'config', 'sim', 'auth', 'map'],
  ['wire'],
  ['client', 'control'],
  ['image', 'cluster'],
];

/** An import of one source file by another, as written. */
export interface SourceImport {
  /** The importing file, relative to the repository: `core/src/env/env.ts`. */
  readonly file: string;
  /** What stands between the quotes. */
  readonly specifier: string;
}

/** Why an import is not allowed, or null. */
export function layerProblem({ file, specifier }: SourceImport): string | null {
  const [from = '', , area = ''] = file.split('/');
  const target = importedPackage(specifier);
  if (target !== null) return packageProblem(from, target, specifier);
  if (!specifier.startsWith('.')) return null;
  const path = resolveRelative(file, specifier);
  if (!path.startsWith(`${from}/src/`)) return `${specifier} reaches out of its package`;
  if (from !== 'core' || isExempt(file)) return null;
  return coreProblem(area, path.split('/')[2] ?? '');
}

function packageProblem(from: string, target: string, specifier: string): string | null {
  // Shared suites and the simulator are for tests, and have entry points of their own.
  if (
    specifier.split('/').length > 2 &&
    !/^@store\/(core|daemon|master)\/(testing|sim)$/.test(specifier)
  )
    return `${specifier} reaches past the package's index`;
  if (from === target) return `${from} imports itself by name`;
  const allowed = PACKAGES[family(from)];
  if (allowed === undefined) return `package ${from} is not in the layer rules`;
  return allowed.includes(family(target)) ? null : `${from} must not import ${target}`;
}

function coreProblem(area: string, targetArea: string): string | null {
  const row = CORE_ROWS.findIndex((areas) => areas.includes(area));
  const targetRow = CORE_ROWS.findIndex((areas) => areas.includes(targetArea));
  if (row < 0) return `core/src/${area} is not in the layer rules`;
  if (targetRow < 0) return `core/src/${targetArea} is not in the layer rules`;
  if (targetRow < row || area === targetArea) return null;
  return `core/src/${area} must not import core/src/${targetArea}`;
}

/** The package indexes see everything; tests and shared suites may use what they test with. */
function isExempt(file: string): boolean {
  return /^core\/src\/[^/]+\.ts$/.test(file) || /\.(test|suite)\.ts$/.test(file);
}

function importedPackage(specifier: string): string | null {
  return /^@store\/([^/]+)/.exec(specifier)?.[1] ?? null;
}

function family(name: string): string {
  return name.startsWith('gateway-') ? 'gateway' : name;
}

function resolveRelative(file: string, specifier: string): string {
  const parts = file.split('/').slice(0, -1);
  for (const part of specifier.split('/')) {
    if (part === '..') parts.pop();
    else if (part !== '.') parts.push(part);
  }
  return parts.join('/');
}

/** The specifiers a source file imports, exports from, or imports on the way. */
export function importsOf(file: string, source: string): SourceImport[] {
  const code = source.replace(/\/\*[\s\S]*?\*\//g, '').replace(/^\s*\/\/.*$/gm, '');
  const patterns = [
    /^\s*(?:import|export)\b[^'"`;]*?\bfrom\s*'([^']+)'/gm,
    /^\s*import\s*'([^']+)'/gm,
    /\bimport\(\s*'([^']+)'/g,
  ];
  return patterns.flatMap((pattern) =>
    [...code.matchAll(pattern)].map(([, specifier = '']) => ({ file, specifier })),
  );
}

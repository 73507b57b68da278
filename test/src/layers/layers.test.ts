import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { repositoryFolder } from '../server/store-programs.js';
import { importsOf, layerProblem } from './layer-rules.js';

function sourceFiles(): string[] {
  return readdirSync(repositoryFolder, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && entry.name !== 'node_modules')
    .filter((entry) => existsSync(join(repositoryFolder, entry.name, 'package.json')))
    .flatMap(({ name }) =>
      readdirSync(join(repositoryFolder, name, 'src'), { recursive: true, encoding: 'utf8' })
        .filter((path) => path.endsWith('.ts'))
        .map((path) => `${name}/src/${path}`),
    );
}

t.test('every import in the repository follows the layers', async (t) => {
  const files = sourceFiles();
  t.ok(files.length > 20, 'the sources were found');
  const imports = files.flatMap((file) =>
    importsOf(file, readFileSync(join(repositoryFolder, file), 'utf8')),
  );
  t.ok(imports.length > files.length, 'the imports were found');
  const problems = imports.flatMap((one) => {
    const problem = layerProblem(one);
    return problem === null ? [] : [`${one.file}: ${problem}`];
  });
  t.same(problems, []);
});

t.test('the rules refuse what would tangle the layers', async (t) => {
  const refused = (file: string, specifier: string): void => {
    t.type(layerProblem({ file, specifier }), 'string', `${file} -> ${specifier}`);
  };
  refused('gateway-nbd/src/server.ts', '@store/daemon');
  refused('gateway-nbd/src/server.ts', '@store/gateway-http');
  refused('daemon/src/store/file-store.ts', '@store/master');
  refused('master/src/index.ts', '@store/daemon');
  refused('core/src/env/env.ts', '@store/daemon');
  refused('daemon/src/index.ts', '@store/tools');
  refused('daemon/src/index.ts', '../../core/src/util/errors.js');
  refused('tools/src/main.ts', '@store/core/dist/util/errors.js');
  refused('core/src/util/errors.ts', '../env/env.js');
  refused('core/src/pool/object-pool.ts', '../image/image.js');
  refused('core/src/map/map-codec.ts', '../wire/frame-header.js');
  refused('core/src/auth/ticket.ts', '../map/storage-map.js');
  refused('core/src/odds-and-ends/thing.ts', '../util/errors.js');
});

t.test('the rules allow what the layers are for', async (t) => {
  const allowed = (file: string, specifier: string): void => {
    t.equal(layerProblem({ file, specifier }), null, `${file} -> ${specifier}`);
  };
  allowed('gateway-nbd/src/server.ts', '@store/core');
  allowed('tools/src/store-nbd.ts', '@store/gateway-nbd');
  allowed('test/src/system/power-loss.test.ts', '@store/daemon');
  allowed('core/src/image/image.ts', '../pool/object-pool.js');
  allowed('core/src/env/env.ts', './disk.js');
  allowed('core/src/index.ts', './image/image.js');
  allowed('daemon/src/store/slot.ts', 'lmdb');
});

t.test('importsOf() sees every form of import and no comment', async (t) => {
  const source = [
    "import t from 'a';",
    "import type { B } from './b.js';",
    "import { c,\n  d } from './c.js';",
    "import './effect.js';",
    "export * from './e.js';",
    "export type * from './f.js';",
    "const g = await import('./g.js');",
    "// import x from './never.js';",
    "/* import y from './never.js'; */",
  ].join('\n');
  const found = importsOf('x.ts', source).map(({ specifier }) => specifier);
  t.same(found.sort(), ['./b.js', './c.js', './e.js', './effect.js', './f.js', './g.js', 'a']);
});

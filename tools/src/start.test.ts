/** What a program is started from: its bundle, if that is made of the modules that are there, and these otherwise. */
import { execFile } from 'node:child_process';
import { copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';

const BIN = fileURLToPath(new URL('../bin/', import.meta.url));
const PACKAGES = ['core', 'daemon', 'master', 'gateway-nbd', 'tools'];

interface Started {
  readonly code: number | string | null | undefined;
  readonly said: string;
}

/** Runs the program `store` of that tree. */
function start(root: string): Promise<Started> {
  return new Promise((resolve) => {
    const path = join(root, 'tools/bin/store.js');
    execFile(process.execPath, [path], (error, stdout, stderr) =>
      resolve({ code: error?.code ?? 0, said: (stdout + stderr).trim() }),
    );
  });
}

t.test('a bundle is used while it is made of the compiled modules', async (t) => {
  const root = t.testdir();
  const put = (path: string, text: string): void => {
    mkdirSync(join(root, path, '..'), { recursive: true });
    writeFileSync(join(root, path), text);
  };
  put('tools/bin/package.json', '{ "type": "commonjs" }');
  for (const name of ['start.js', 'store.js', 'build-mark.js'])
    copyFileSync(join(BIN, name), join(root, 'tools/bin', name));
  t.match(await start(root), { code: 1, said: /Not built yet; run 'make build'/ });
  put('tools/package.json', '{ "type": "module" }');
  put('tools/dist/store.js', "console.log('modules');");
  put('tools/dist/bundle/store.js', "console.log('bundle');");
  const said = async (): Promise<string> => (await start(root)).said;
  t.equal(await said(), 'modules', 'nothing says what the bundle is made of');
  for (const name of PACKAGES) put(`${name}/dist/.tsbuildinfo`, name);
  const { buildMark, MARK_FILE } = createRequire(import.meta.url)(
    join(root, 'tools/bin/build-mark.js'),
  ) as { buildMark: () => string; MARK_FILE: string }; // the copy, which looks at the copies
  writeFileSync(MARK_FILE, buildMark());
  t.equal(await said(), 'bundle');
  for (const name of PACKAGES) {
    put(`${name}/dist/.tsbuildinfo`, 'compiled again');
    t.equal(await said(), 'modules', name);
    put(`${name}/dist/.tsbuildinfo`, name);
  }
  t.equal(await said(), 'bundle', 'the same as before');
  rmSync(join(root, 'core/dist/.tsbuildinfo'));
  t.equal(await said(), 'modules', 'nobody knows what was compiled');
});

t.test('whatever is started is a program of the bundle', (t) => {
  const { PROGRAMS } = createRequire(import.meta.url)('../bin/build-mark.js') as {
    PROGRAMS: readonly string[];
  }; // as it is written there
  const started = readdirSync(BIN)
    .filter((name) => name.startsWith('store'))
    .map((name) => readFileSync(join(BIN, name), 'utf8'))
    .flatMap((text) => [...text.matchAll(/'(store[a-z-]*)'/g)].map(([, name]) => name));
  t.same([...new Set(started)].sort(), [...PROGRAMS].sort());
  t.end();
});

// Starts one of the programs. It is not compiled, so that npm can link it before anything is built, and it is
// CommonJS: loading an ES module would already start the thread pool with its default of 4 threads.
'use strict';
/* eslint-disable @typescript-eslint/no-require-imports, @typescript-eslint/unbound-method */
const { existsSync, statSync } = require('node:fs');
const { join } = require('node:path');

/** @param {string} program */
module.exports = function start(program) {
  process.env['UV_THREADPOOL_SIZE'] ??= '16';
  // SIGHUP tells a server to read its files again. One that is still starting reads them anyway, and must not die of it.
  const isServer =
    program === 'store-nbd' || ['file-store', 'master'].includes(process.argv[2] ?? '');
  if (isServer) process.on('SIGHUP', () => undefined);
  const compiled = join(__dirname, '..', 'dist', `${program}.js`);
  if (!existsSync(compiled)) {
    process.stderr.write(
      `${program}: Not built yet; run 'make build' in ${join(__dirname, '../..')}\n`,
    );
    process.exit(1);
  }
  const bundled = join(__dirname, '..', 'dist', 'bundle', `${program}.js`);
  void import(isUpToDate(bundled) ? bundled : compiled);
};

/**
 * Who compiles without bundling shall not run what was before.
 * @param {string} bundled
 */
function isUpToDate(bundled) {
  const builtAt = modifiedAt(bundled);
  const compiled = ['core', 'daemon', 'master', 'gateway-nbd', 'tools'].map((name) =>
    modifiedAt(join(__dirname, '../..', name, 'dist', '.tsbuildinfo')),
  );
  return compiled.every((at) => at <= builtAt);
}

/**
 * @param {string} path
 * @returns 0: there is no such file
 */
function modifiedAt(path) {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
}

// Starts one of the programs. It is not compiled, so that npm can link it before anything is built, and it is
// CommonJS: loading an ES module would already start the thread pool with its default of 4 threads.
'use strict';
/* eslint-disable @typescript-eslint/no-require-imports, @typescript-eslint/unbound-method */
const { existsSync, readFileSync } = require('node:fs');
const { join } = require('node:path');
const { buildMark, bundleOf, MARK_FILE } = require('./build-mark.js');

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
  const bundled = bundleOf(program);
  void import(isBundled() && existsSync(bundled) ? bundled : compiled);
};

/** Who compiles without bundling shall not run what was before. */
function isBundled() {
  return existsSync(MARK_FILE) && readFileSync(MARK_FILE, 'utf8') === buildMark();
}

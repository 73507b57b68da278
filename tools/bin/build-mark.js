// Which compiled modules there are, in short: programs run from their bundle only while it is made of these.
'use strict';
/* eslint-disable @typescript-eslint/no-require-imports, @typescript-eslint/unbound-method */
const { createHash } = require('node:crypto');
const { existsSync, readFileSync } = require('node:fs');
const { join } = require('node:path');

const PACKAGES = ['core', 'daemon', 'master', 'gateway-nbd', 'tools'];
const root = join(__dirname, '../..');

exports.PACKAGES = PACKAGES;
/** What `start` is called with. */
exports.PROGRAMS = ['store', 'store-nbd', 'store-nbd-devices', 'store-image'];

/**
 * Another one whenever the compiler has made something else of them.
 * @returns null: they were not compiled here
 */
exports.buildMark = function buildMark() {
  const hash = createHash('sha256');
  for (const name of PACKAGES) {
    const path = join(root, name, 'dist', '.tsbuildinfo');
    if (!existsSync(path)) return null;
    hash.update(readFileSync(path)).update('\0');
  }
  return hash.digest('hex');
};

/** @param {string} program */
exports.bundleOf = function bundleOf(program) {
  return join(root, 'tools', 'dist', 'bundle', `${program}.js`);
};

/** Where the bundle says what it is made of. */
exports.MARK_FILE = join(root, 'tools', 'dist', 'bundle', 'made-of');

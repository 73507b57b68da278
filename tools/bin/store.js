#!/usr/bin/env node
'use strict';
// eslint-disable-next-line @typescript-eslint/no-require-imports -- CommonJS, see start.js
require('./start.js')('store');

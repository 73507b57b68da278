#!/usr/bin/env node
'use strict';
// Devices need none of what serving loads, and the other way round.
const isAboutDevices = ['attach', 'detach', 'ps'].includes(process.argv[2] ?? '');
// eslint-disable-next-line @typescript-eslint/no-require-imports -- CommonJS, see start.js
require('./start.js')(isAboutDevices ? 'store-nbd-devices' : 'store-nbd');

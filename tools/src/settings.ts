/** Everything the programs can be told, by flag, environment variable or configuration file. */
import {
  choiceSetting,
  LOG_FORMATS,
  numberSetting,
  parseSize,
  sizeSetting,
  switchSetting,
  textSetting,
  type Setting,
} from '@store/core';
import { datagramSetting } from './datagram-setting.js';
import { TLS_SETTINGS } from './nbd-tls/tls-settings.js';
import { DAEMON_SETTINGS } from './reaching/daemon-settings.js';
import { LIMIT_SETTINGS } from './server-limits.js';
import { MASTER_SETTINGS } from './cluster/master-settings.js';
import { FILE_STORE_SETTINGS } from './serving/file-store-settings.js';

/** 10809 is the port of NBD. */
const NBD_PORT = 10_809;

export const SETTINGS = {
  dir: textSetting('dir', './store-data'),
  pool: textSetting('pool', 'default'),
  image: textSetting('image', null),
  size: sizeSetting('size', null),
  bind: textSetting('bind', '127.0.0.1'),
  port: numberSetting('port', { min: 0, max: 65_535, fallback: NBD_PORT }),
  socket: textSetting('socket', null),
  readOnly: switchSetting('read-only'),
  insecure: switchSetting('insecure'),
  replace: switchSetting('replace'),
  force: switchSetting('force'),
  owner: textSetting('owner', null),
  minBlock: sizeSetting('min-block', 1),
  metrics: textSetting('metrics', null),
  create: createSetting(),
  json: switchSetting('json'),
  logFormat: choiceSetting('log-format', LOG_FORMATS, 'auto'),
  verbose: switchSetting('verbose'),
} as const;

/** The name of the image where none is given. */
export const DEFAULT_IMAGE = 'default';

export const SETTING_NAMES: readonly string[] = [
  ...Object.values(SETTINGS),
  ...LIMIT_SETTINGS,
  ...TLS_SETTINGS,
  ...DAEMON_SETTINGS,
  ...FILE_STORE_SETTINGS,
  ...MASTER_SETTINGS,
  datagramSetting,
].map(({ name }) => name);

/** `--create`, or `--create 10G` in one go. */
function createSetting(): Setting<boolean | number> {
  const onOff = switchSetting('create');
  return {
    name: 'create',
    fallback: false,
    parse: (text) => (/^\d/.test(text) ? parseSize(text) : onOff.parse(text)),
  };
}

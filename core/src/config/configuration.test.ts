import t from 'tap';
import { Configuration, parseConfigFile, type ConfigSources } from './configuration.js';
import {
  choiceSetting,
  numberSetting,
  sizeSetting,
  switchSetting,
  textSetting,
  variableOf,
} from './setting.js';

const port = numberSetting('port', { min: 0, max: 65_535, fallback: 10_809 });
const readOnly = switchSetting('read-only');
const dir = textSetting('dir', './store-data');
const image = textSetting('image', null);
const size = sizeSetting('size', null);
const format = choiceSetting('log-format', ['auto', 'json', 'text'] as const, 'auto');

function configuration(sources: {
  flags?: Record<string, string>;
  environment?: Record<string, string>;
  file?: string;
}): Configuration {
  const names = [port, readOnly, dir, image, size, format].map((setting) => setting.name);
  const file =
    sources.file === undefined ? null : parseConfigFile('/etc/store.json', sources.file, names);
  const all: ConfigSources = {
    flags: new Map(Object.entries(sources.flags ?? {})),
    environment: sources.environment ?? {},
    file,
  };
  return new Configuration(all);
}

await t.test('flags win over the environment, that over the file, that over defaults', (t) => {
  const file = '{"dir": "/file", "port": 1, "read-only": true}';
  const environment = { STORE_DIR: '/environment', STORE_PORT: '2', STORE_READ_ONLY: '' };
  t.equal(configuration({}).get(dir), './store-data');
  t.equal(configuration({}).get(image), null);
  t.equal(configuration({ file }).get(dir), '/file');
  t.equal(configuration({ file, environment }).get(dir), '/environment');
  t.equal(configuration({ file, environment, flags: { dir: '/flag' } }).get(dir), '/flag');
  t.equal(configuration({ file, environment }).get(port), 2);
  t.equal(configuration({ file, environment }).get(readOnly), true, 'an empty variable is not set');
  t.equal(variableOf('read-only'), 'STORE_READ_ONLY');
  t.end();
});

await t.test('a bad value is reported with the place it came from', (t) => {
  const message = (sources: Parameters<typeof configuration>[0]): RegExp => {
    t.throws(() => configuration(sources).get(port), { code: 'E_INVALID' });
    try {
      configuration(sources).get(port);
    } catch (error) {
      return new RegExp((error as Error).message); // it was just seen to be one
    }
    return /did not throw/;
  };
  t.match("Bad --port: 'x' is not a number from 0 to 65535", message({ flags: { port: 'x' } }));
  t.match(
    "Bad environment variable STORE_PORT: '70000' is not a number from 0 to 65535",
    message({ environment: { STORE_PORT: '70000' } }),
  );
  t.match(
    `Bad "port" in /etc/store.json: '-1' is not a number from 0 to 65535`,
    message({ file: '{"port": -1}' }),
  );
  t.end();
});

await t.test('values are read strictly', (t) => {
  const bad = (flags: Record<string, string>, get: (from: Configuration) => unknown): void =>
    void t.throws(() => get(configuration({ flags })), { code: 'E_INVALID' });
  for (const text of ['', '1.5', '0x10', ' 1', '1e3', '-0'])
    bad({ port: text }, (from) => from.get(port));
  for (const text of ['', 'TRUE', '2']) bad({ 'read-only': text }, (from) => from.get(readOnly));
  bad({ dir: '' }, (from) => from.get(dir));
  bad({ 'log-format': 'xml' }, (from) => from.get(format));
  for (const text of ['100X', '-1', '']) bad({ size: text }, (from) => from.get(size));
  t.equal(configuration({ flags: { size: '100M' } }).get(size), 104_857_600);
  t.equal(configuration({ flags: { 'read-only': 'off' } }).get(readOnly), false);
  t.equal(configuration({ environment: { STORE_LOG_FORMAT: 'json' } }).get(format), 'json');
  t.equal(configuration({}).placeOf(port), null);
  t.end();
});

await t.test('a configuration file with a misspelt setting is refused', (t) => {
  t.throws(() => configuration({ file: '{"prot": 1}' }), {
    message: /"prot" in \/etc\/store.json is not a setting/,
  });
  t.throws(() => configuration({ file: '{"port": [1]}' }), { message: /Bad "port"/ });
  t.throws(() => configuration({ file: '[]' }), { message: /not a JSON object/ });
  t.throws(() => configuration({ file: '{' }), { message: /store.json is not JSON/ });
  t.end();
});

import t from 'tap';
import { planTls, type Reach, type TlsPlan } from './tls-plan.js';
import type { TlsFiles, TlsGiven } from './tls-settings.js';

const HERE: Reach = { local: true, host: '127.0.0.1', insecure: false };
const OUTSIDE: Reach = { local: false, host: '0.0.0.0', insecure: false };
const INSECURE: Reach = { ...OUTSIDE, insecure: true };
const NO_FILES: TlsFiles = { cert: null, key: null, ca: null, crl: null, psk: null };
const SERVER = { cert: 'c.pem', key: 'k.pem' };
const X509 = { ...SERVER, ca: 'ca.pem' };

function plan(
  reach: Reach,
  files: Partial<TlsFiles>,
  given: Partial<Omit<TlsGiven, 'files'>> = {},
): TlsPlan {
  const all = { ...NO_FILES, ...files };
  const named = given.dir === undefined ? all : NO_FILES;
  return planTls(
    { mode: null, only: null, dir: null, rights: null, ...given, files: named },
    all,
    reach,
  );
}

t.test('where others can connect the default is TLS, elsewhere none [T12]', (t) => {
  t.strictSame(plan(HERE, {}), { mode: 'off', warning: null });
  t.strictSame(plan(OUTSIDE, X509), { mode: 'required', warning: null });
  t.strictSame(plan(OUTSIDE, { psk: 'keys.psk' }), { mode: 'required', warning: null });
  t.strictSame(plan(HERE, X509, { mode: 'on', only: ['vm*'] }), { mode: 'on', warning: null });
  t.equal(plan(OUTSIDE, SERVER, { rights: 'r.json' }).warning, null);
  t.throws(() => plan(OUTSIDE, {}), /speaks TLS: give it keys .* or add --insecure/);
  t.throws(() => plan(OUTSIDE, X509, { mode: 'on' }), /unencrypted; use --tls required/);
  t.throws(() => plan(OUTSIDE, X509, { mode: 'off' }), /unencrypted; use --tls required/);
  t.throws(() => plan(OUTSIDE, SERVER), /no client has to prove who it is; give --tls-ca/);
  t.end();
});

t.test('--insecure takes any of it, with a warning', (t) => {
  const warning = /Anybody who reaches/;
  t.match(plan(INSECURE, {}), { mode: 'off', warning });
  t.match(plan(INSECURE, SERVER), { mode: 'required', warning });
  t.match(plan(INSECURE, X509, { mode: 'on' }), { mode: 'on', warning });
  t.match(plan(INSECURE, X509), { mode: 'required', warning: null });
  t.end();
});

t.test('nothing that was given for protection is ignored', (t) => {
  t.throws(() => plan(HERE, X509), /There are keys for TLS, but it is off/);
  t.equal(plan(HERE, X509, { mode: 'off' }).mode, 'off', 'somebody wants it so');
  t.throws(() => plan(HERE, {}, { rights: 'r.json' }), /--rights needs clients that prove/);
  t.throws(() => plan(HERE, X509, { mode: 'off', rights: 'r.json' }), /--rights needs clients/);
  t.throws(() => plan(HERE, {}, { only: ['vm1'] }), /--tls-only needs TLS/);
  t.throws(() => plan(HERE, X509, { mode: 'required', only: ['vm1'] }), /every export needs TLS/);
  t.throws(() => plan(HERE, {}, { mode: 'required' }), /--tls required needs keys/);
  t.throws(() => plan(HERE, { cert: 'c.pem' }), /key of c\.pem is missing; give --tls-key/);
  t.throws(() => plan(HERE, { key: 'k.pem' }), /certificate of k\.pem is missing/);
  t.throws(() => plan(HERE, { psk: 'p', ca: 'ca.pem' }), /ca\.pem is of no use without/);
  t.throws(() => plan(HERE, { ...SERVER, crl: 'crl.pem' }), /crl\.pem is of no use without/);
  t.throws(() => plan(HERE, {}, { dir: 'tls' }), /tls has neither server-cert\.pem nor keys\.psk/);
  t.throws(() => plan(OUTSIDE, SERVER, { dir: 'tls' }), /tls has no ca-cert\.pem/);
  t.end();
});

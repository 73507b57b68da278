/** `store cert`: certificates of TLS for people who have no authority of their own. */
import { X509Certificate } from 'node:crypto';
import { dirname } from 'node:path';
import { numberSetting, switchSetting, textSetting } from '@store/core';
import type { Command } from 'commander';
import { quote } from './attach-advice.js';
import {
  AUTHORITY_NAME,
  makeAuthorityFolder,
  pathsIn,
  readAuthority,
  refuseExisting,
  writeCertificate,
  type CertificatePaths,
} from './certs/authority-folder.js';
import { certificateFacts, readCertificate } from './certs/certificate-facts.js';
import { defaultHosts, parseHost } from './certs/host-names.js';
import {
  COMMON_NAME_CHARACTERS_MAX,
  makeAuthority,
  makeCertificate,
} from './certs/make-certificate.js';
import { fileNameOf } from './file-name.js';
import { asUsage, handles, type Context } from './program.js';
import { SETTINGS } from './settings.js';
import { UsageError } from './usage-error.js';

const FOLDER = './certs';
const DAYS_MAX = 3653;
const ISSUED_DAYS = 825;
const DAY_MS = 86_400_000;

const outSetting = textSetting('out', null);
const nameSetting = textSetting('name', 'store certificate authority');
const forceSetting = switchSetting('force');
const authorityDaysSetting = numberSetting('days', { min: 1, max: DAYS_MAX, fallback: DAYS_MAX });
/** 0: as long as may be. */
const issuedDaysSetting = numberSetting('days', { min: 1, max: DAYS_MAX, fallback: 0 });

/** Adds the commands to `program`. */
export function addCertCommands(program: Command): void {
  const cert = program
    .command('cert')
    .description('certificates of TLS, for those who have no authority of their own');
  addInit(cert);
  addIssue(cert);
  addShow(cert);
}

function addInit(cert: Command): void {
  const init = cert
    .command('init')
    .description('make an authority: ca.crt, which all trust, and ca.key, which signs')
    .option('--out <folder>', `where to (default: ${FOLDER}); --dir says the same`)
    .option('--name <text>', 'what it is called (default: store certificate authority)')
    .option('--days <number>', `how long it is good (default: ${DAYS_MAX}, ten years)`)
    .option('--force', 'replace the authority that is there: what it signed is worth nothing then')
    .addHelpText('after', '\nExample:\n  store cert init --name "our storage"');
  handles(init, async (context) => {
    const folder = folderOf(context, init);
    const name = context.get(nameSetting);
    checkCommonName(name);
    const notAfter = daysFromNow(context.get(authorityDaysSetting));
    const paths = pathsIn(folder, AUTHORITY_NAME);
    makeAuthorityFolder(folder);
    const replaces = context.get(forceSetting);
    if (!replaces) await refuseExisting(paths);
    const made = await makeAuthority(name, notAfter);
    await writeCertificate(paths, made, replaces);
    const dir = folder === FOLDER ? '' : ` --dir ${quote(folder)}`;
    report(context, paths, made.certificate, [
      `Made the authority '${name}': ${paths.certificate}, good until ${day(notAfter)}`,
      `Keep ${paths.key} to yourself. Then make certificates for your machines:`,
      `  store cert issue NAME${dir}`,
    ]);
  });
}

function addIssue(cert: Command): void {
  const issue = cert
    .command('issue')
    .description('make a certificate, good for every role: NAME.crt and NAME.key')
    .argument('<name>', 'whose it is: a machine, a daemon, a client')
    .option('--host <host>', 'a name or address it serves; more than one may be given', collect, [])
    .option('--days <number>', `how long it is good (default: ${ISSUED_DAYS})`)
    .option('--out <folder>', `where the authority is (default: ${FOLDER}); --dir says the same`)
    .option('--force', 'replace the certificate and the key that are there')
    .addHelpText(
      'after',
      `
Without --host it is good for NAME and for this machine itself: localhost, 127.0.0.1 and ::1.

Example:
  store cert issue storage1 --host storage1.example.org --host 192.0.2.7`,
    );
  handles(issue, async (context, [name = '']) => {
    const folder = folderOf(context, issue);
    checkCommonName(name);
    const file = fileNameOf('certificate', name, '', 'choose a plain one and give --host');
    if (file === AUTHORITY_NAME)
      throw new UsageError("'ca' is the authority itself; choose another name");
    const hosts = asUsage(() => hostsOf(issue, name));
    const { signer, notAfter: latest } = await readAuthority(folder);
    const notAfter = endOf(context, latest);
    const paths = pathsIn(folder, file);
    const replaces = context.get(forceSetting);
    if (!replaces) await refuseExisting(paths);
    const made = await makeCertificate(signer, name, hosts, notAfter);
    await writeCertificate(paths, made, replaces);
    report(context, paths, made.certificate, [
      `Made a certificate for '${name}', good until ${day(notAfter)}: ${paths.certificate}`,
      `Hosts: ${hosts.map(({ value }) => value).join(', ')}`,
      `Its key is ${paths.key}; take both to its machine, and ca.crt, but not ca.key`,
    ]);
  });
}

function addShow(cert: Command): void {
  const show = cert
    .command('show')
    .description('say whose a certificate is, for which hosts, and until when')
    .argument('<file>', 'the certificate, in PEM')
    .addHelpText('after', '\nExample:\n  store cert show certs/storage1.crt');
  handles(show, async (context, [path = '']) => {
    const facts = certificateFacts(await readCertificate(path), new Date());
    if (context.get(SETTINGS.json)) {
      context.print(JSON.stringify(facts));
      return;
    }
    const state = facts.state === 'valid' ? '' : ` (${facts.state})`;
    context.print(
      [
        `name         ${facts.name}${facts.isAuthority ? ' (an authority)' : ''}`,
        `signed by    ${facts.issuer}`,
        `hosts        ${facts.hosts.join(', ') || 'none'}`,
        `valid from   ${facts.notBefore.toISOString()}`,
        `valid until  ${facts.notAfter.toISOString()}${state}`,
        `serial       ${facts.serial}`,
        `fingerprint  ${facts.fingerprint}`,
      ]
        .map((line) => line.replace(/\p{Cc}/gu, '?')) // a name made elsewhere must not move the cursor
        .join('\n'),
    );
  });
}

/**
 * `--dir` is a flag of the whole program, and its variable and its place in a configuration file mean the folder of
 * the data: only on the command line of these commands it is the folder of certificates.
 */
function folderOf(context: Context, command: Command): string {
  const out = context.get(outSetting);
  const { dir } = command.optsWithGlobals<{ dir?: string }>();
  if (out !== null && dir !== undefined && out !== dir)
    throw new UsageError('--out and --dir say the same; give only one of them');
  return out ?? dir ?? FOLDER;
}

function hostsOf(command: Command, name: string): ReturnType<typeof defaultHosts> {
  const { host } = command.opts<{ host: string[] }>();
  return host.length === 0 ? defaultHosts(name) : host.map(parseHost);
}

/** No certificate is good for longer than its authority. */
function endOf(context: Context, latest: Date): Date {
  const days = context.get(issuedDaysSetting);
  const notAfter = daysFromNow(days === 0 ? ISSUED_DAYS : days);
  if (notAfter <= latest) return notAfter;
  if (days === 0) return latest;
  throw new UsageError(
    `The authority itself is good until ${day(latest)}, less than ${days} days; give fewer --days`,
  );
}

function checkCommonName(name: string): void {
  const isFit =
    name.trim() !== '' &&
    !/\p{Cc}/u.test(name) &&
    Array.from(name).length <= COMMON_NAME_CHARACTERS_MAX;
  if (!isFit || Buffer.from(name).toString() !== name)
    throw new UsageError(
      `${JSON.stringify(name)} cannot be the name in a certificate: 1 to ${COMMON_NAME_CHARACTERS_MAX} characters, no control characters`,
    );
}

function report(
  context: Context,
  paths: CertificatePaths,
  certificate: string,
  lines: readonly string[],
): void {
  if (!context.get(SETTINGS.json)) {
    context.print(lines.join('\n'));
    return;
  }
  const facts = certificateFacts(new X509Certificate(certificate), new Date());
  const ca = pathsIn(dirname(paths.certificate), AUTHORITY_NAME).certificate;
  context.print(JSON.stringify({ files: { ...paths, ca }, ...facts }));
}

function daysFromNow(days: number): Date {
  return new Date(Math.floor(Date.now() / 1000) * 1000 + days * DAY_MS);
}

function day(date: Date): string {
  return date.toISOString().slice(0, 10);
}

function collect(value: string, before: readonly string[]): string[] {
  return [...before, value];
}

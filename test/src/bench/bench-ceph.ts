/**
 * A small Ceph on this machine and `qemu-nbd` in front of it as one program: a monitor, a manager, OSDs (BlueStore, each in a
 * sparse file), and a pool with a copy of everything on each of them.
 *
 *   bench-ceph.js --dir DIR --osds N --image NAME --size BYTES (--socket PATH | --port PORT)
 *
 * Settings one would run it with on solid state disks, and what is fair beside us: nobody has to prove who he is (as ours on
 * loopback), and a write is answered when all OSDs have it (`rbd_cache` off: with it a write is answered from the memory
 * of the client). Debian: ceph-mon ceph-mgr ceph-osd ceph-common qemu-utils qemu-block-extra.
 */
import { randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { run } from '../host/command.js';
import { reservePort } from '@store/core/testing';
import { waitUntil } from '../host/wait-until.js';
import { ProgramParts } from './program-parts.js';

const USAGE =
  'Usage: bench-ceph.js --dir DIR --osds N --image NAME --size BYTES (--socket PATH | --port PORT)';
const POOL = 'bench';
const GROUPS = 32;
const DISK_BYTES = 16 * 1024 ** 3;
const MEMORY_BYTES = 1536 * 1024 ** 2;
/** Of each of six programs; all together below what the benchmark waits before it kills. */
const STOP_MS = 1500;
const UP_MS = 30_000;

interface Options {
  readonly dir: string;
  readonly osds: number;
  readonly image: string;
  readonly bytes: number;
  readonly where: readonly string[];
}

const parts = new ProgramParts(STOP_MS);
await parts.run('bench-ceph', async () => {
  const options = parse(process.argv.slice(2));
  const config = join(options.dir, 'ceph.conf');
  const isNew = !existsSync(config);
  if (isNew) await format(options, config);
  const ask = (command: string, ...args: string[]): Promise<string> =>
    run(command, ['-c', config, ...args]);
  const start = (name: string, id: string): unknown =>
    parts.startProgram(`ceph-${name}`, ['-f', '-c', config, '-i', id]);
  start('mon', 'a');
  await ask('ceph', 'mon', 'stat'); // waits for it
  start('mgr', 'x');
  for (let osd = 0; osd < options.osds; osd += 1) {
    if (parts.isAsked) return;
    if (isNew) await makeOsd(config, osd);
    start('osd', `${osd}`);
  }
  const allUp = new RegExp(` ${options.osds} up.* ${options.osds} in`);
  await until('all OSDs to be up', () => ask('ceph', 'osd', 'stat'), allUp);
  if (isNew) {
    const pool = ['osd', 'pool', 'create', POOL, `${GROUPS}`, `${GROUPS}`, 'replicated'];
    await ask('ceph', ...pool);
    await ask('ceph', 'osd', 'pool', 'application', 'enable', POOL, 'rbd');
    await ask('rbd', 'create', `${POOL}/${options.image}`, '--size', `${options.bytes}B`);
  }
  await until('all copies', () => ask('ceph', 'pg', 'stat'), /^(\d+) pgs: \1 active\+clean;/);
  if (parts.isAsked) return;
  const image = `rbd:${POOL}/${options.image}:conf=${config}`;
  const served = ['--persistent', '--shared=32', '--format=raw', '--cache=none', ...options.where];
  parts.startProgram('qemu-nbd', [...served, image]);
});

/** Makes a monitor that knows of nothing yet. */
async function format({ dir, osds }: Options, config: string): Promise<void> {
  for (const folder of ['mon', 'mgr', 'run', 'log', ...diskNames(osds)])
    mkdirSync(join(dir, folder), { recursive: true });
  const id = randomUUID();
  const address = `[v2:127.0.0.1:${await reservePort()},v1:127.0.0.1:${await reservePort()}]`;
  writeFileSync(config, configText({ dir, osds, id, address }));
  const map = join(dir, 'monmap');
  await run('monmaptool', ['--create', '--clobber', '--fsid', id, '--addv', 'a', address, map]);
  await run('ceph-mon', ['-c', config, '-i', 'a', '--mkfs', '--monmap', map]);
}

/** @param cluster - `address`: of the monitor, in both versions of their protocol */
function configText(cluster: {
  readonly dir: string;
  readonly osds: number;
  readonly id: string;
  readonly address: string;
}): string {
  const { dir, osds, id, address } = cluster;
  const quiet = ['none', 'ms', 'auth', 'monc', 'osd', 'bluestore', 'bluefs', 'bdev', 'rocksdb'];
  const quietToo = ['objecter', 'rados', 'rbd', 'objectcacher', 'finisher', 'throttle', 'tp'];
  return [
    '[global]',
    ...[`fsid = ${id}`, `mon_host = ${address}`],
    ...['public_addr = 127.0.0.1', 'cluster_addr = 127.0.0.1', 'ms_bind_ipv6 = false'],
    ...['ms_bind_port_min = 16800', 'ms_bind_port_max = 17300'],
    ...['cluster', 'service', 'client'].map((who) => `auth_${who}_required = none`),
    ...[`run_dir = ${dir}/run`, `crash_dir = ${dir}/run`, `log_file = ${dir}/log/$name.log`],
    ...[`admin_socket = ${dir}/run/$name.asok`, `mon_cluster_log_file = ${dir}/log/cluster.log`],
    ...[`osd_pool_default_size = ${osds}`, `osd_pool_default_min_size = ${Math.min(2, osds)}`],
    ...['osd_pool_default_pg_autoscale_mode = off', 'osd_crush_chooseleaf_type = 0'],
    ...[...quiet, ...quietToo].map((what) => `debug_${what} = 0/0`),
    ...['[mon]', `mon_data = ${dir}/mon`, 'mon_data_avail_warn = 3', 'mon_data_avail_crit = 1'],
    ...['[mgr]', `mgr_data = ${dir}/mgr`],
    ...['[osd]', `osd_data = ${dir}/osd$id`, `osd_memory_target = ${MEMORY_BYTES}`],
    ...[`bluestore_block_size = ${DISK_BYTES}`, 'bluestore_block_create = true'],
    ...['bluestore_block_preallocate_file = false', 'bluestore_debug_enforce_settings = ssd'],
    ...['osd_op_num_shards = 8', 'osd_op_num_threads_per_shard = 2'],
    ...['[client]', 'rbd_cache = false', ''],
  ].join('\n');
}

function diskNames(osds: number): string[] {
  return Array.from({ length: osds }, (_, index) => `osd${index}`);
}

async function makeOsd(config: string, osd: number): Promise<void> {
  const id = randomUUID();
  await run('ceph', ['-c', config, 'osd', 'new', id]);
  await run('ceph-osd', ['-c', config, '-i', `${osd}`, '--mkfs', '--osd-uuid', id]);
}

/** Asks until the answer looks right, or somebody asks us to go. */
async function until(what: string, ask: () => Promise<string>, right: RegExp): Promise<void> {
  await waitUntil(what, UP_MS, async () => parts.isAsked || right.test(await ask()));
}

function parse(args: readonly string[]): Options {
  const text = { type: 'string' } as const;
  const { values } = parseArgs({
    args: [...args],
    options: { dir: text, osds: text, image: text, size: text, socket: text, port: text },
  });
  const { dir, image, socket, port } = values;
  const [osds, bytes] = [Number(values.osds), Number(values.size)];
  const isComplete = dir !== undefined && image !== undefined && osds >= 1 && bytes > 0;
  if (!isComplete || (socket === undefined && port === undefined)) throw new Error(USAGE);
  const where =
    socket === undefined ? ['--bind=127.0.0.1', `--port=${port}`] : ['--socket', socket];
  return { dir, osds, image, bytes, where };
}

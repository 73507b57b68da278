/** Opens the cluster whose masters the settings name. */
import { ClientKey, ClusterStore, MasterGuide, SECRET_FILE_BYTES_MAX } from '@store/core';
import { datagramSetting } from '../datagram-setting.js';
import { dieOf, type Context } from '../program.js';
import { readTextFile } from '../read-text-file.js';
import { SETTINGS } from '../settings.js';
import { UsageError } from '../usage-error.js';
import { isLoopback } from '../loopback.js';
import { tlsOf } from './client-tls.js';
import { DAEMON } from './daemon-settings.js';

const FOR_OTHERS = 0o007;
/** Who begins does not wait for masters as long as who has data to lose waits for daemons. */
const MASTER_SECONDS_MAX = 30;

/**
 * Finds the leader of the masters that the settings name.
 * @param timeoutSeconds - Unless `--daemon-timeout` says something else.
 * @throws UsageError if the settings do not fit together
 * @throws StoreError if a file cannot be used, or no master lets us in
 */
export async function openGuide(context: Context, timeoutSeconds: number): Promise<MasterGuide> {
  const masters = context.get(DAEMON.master);
  if (masters.length === 0)
    throw new UsageError('Name a master of the cluster: --master HOST:PORT, or STORE_MASTER');
  const tls = await tlsOf(context);
  const exposed = masters.find(({ host }) => !isLoopback(host));
  if (tls === null && exposed !== undefined && !context.get(SETTINGS.insecure))
    throw new UsageError(
      `${exposed.host} is another machine: add --ca-cert FILE, the authority of its certificate, so that nobody in between reads along; or --insecure`,
    );
  return MasterGuide.open({
    env: context.env,
    masters,
    tls,
    key: await clientKeyOf(context),
    name: context.program,
    deadlineMs: (context.get(DAEMON.timeout) ?? timeoutSeconds) * 1000,
    defect: (error) => dieOf(context.log, error),
  });
}

/**
 * Opens the store of the cluster.
 * @param timeoutSeconds - Unless `--daemon-timeout` says something else.
 * @throws UsageError, StoreError as `openGuide`
 */
export async function openCluster(context: Context, timeoutSeconds: number): Promise<ClusterStore> {
  const guide = await openGuide(context, Math.min(timeoutSeconds, MASTER_SECONDS_MAX));
  const isUdp = context.get(DAEMON.transport) === 'udp';
  return new ClusterStore({
    env: context.env,
    guide,
    name: context.program,
    tls: await tlsOf(context),
    deadlineMs: (context.get(DAEMON.timeout) ?? timeoutSeconds) * 1000,
    datagramBytes: isUdp ? context.get(datagramSetting) : 0,
  });
}

async function clientKeyOf(context: Context): Promise<ClientKey | null> {
  const path = context.get(DAEMON.clientKey);
  if (path === null) return null;
  const { text, mode } = await readTextFile(path, SECRET_FILE_BYTES_MAX);
  if ((mode & FOR_OTHERS) !== 0)
    context.log.warn({ file: path }, `Every user can get at this key; chmod o= ${path}`);
  return ClientKey.parse(path, text);
}

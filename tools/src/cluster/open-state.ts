/** Opens what masters know, as the flags of `store master` say: a folder, or an etcd. */
import { join } from 'node:path';
import { EmbeddedState, EtcdState, type StateStore } from '@store/master';
import { readSmallFile } from '../nbd-tls/tls-files.js';
import type { Context } from '../program.js';
import { readTextFile } from '../read-text-file.js';
import type { EtcdGiven, MasterGiven } from './master-settings.js';

const PASSWORD_BYTES_MAX = 4096;

/** @throws StoreError if it cannot be opened */
export async function openState(context: Context, given: MasterGiven): Promise<StateStore> {
  const { env } = context;
  if (given.etcd !== null) return openEtcd(context, given.etcd);
  return EmbeddedState.open(env, join(given.stateDir, 'state'), { create: true });
}

async function openEtcd(
  { env }: Context,
  { endpoints, name, ca, files, user }: EtcdGiven,
): Promise<StateStore> {
  const isTls = endpoints.some((url) => url.startsWith('https:'));
  const tls = {
    ca: ca === null ? null : await readSmallFile(ca),
    client:
      files === null
        ? null
        : { cert: await readSmallFile(files.cert), key: await readSmallFile(files.key) },
  };
  const password =
    user === null ? '' : (await readTextFile(user.passwordFile, PASSWORD_BYTES_MAX)).text.trim();
  return new EtcdState(env, {
    endpoints,
    cluster: name,
    tls: isTls ? tls : null,
    user: user === null ? null : { name: user.name, password },
  });
}

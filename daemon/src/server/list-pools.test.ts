import t from 'tap';
import { ServedFolder } from './testing/served-folder.js';

t.test('all pools are listed, whatever their names take in a frame', async (t) => {
  const served = await ServedFolder.open();
  t.teardown(() => served.remove());
  const store = await served.connect();
  const names = Array.from({ length: 300 }, (_, index) => `${index}`.padStart(128, '\u0001'));
  for (const name of names) await store.openPool(name, { create: true });
  t.same(await store.listPools(), names.sort());
  await store.close();
});

/**
 * How a client learns that answered writes are gone. Each folder has a lineage: as long as it stays the same, no start of
 * the folder has lost a write that was answered and not flushed. A client that remembers the lineage it wrote under, and
 * finds another one when it comes back, must not take its unflushed writes for stored.
 *
 * A start that finds out about a loss makes the new lineage durable before it begins `live` anew, since what `live`
 * holds is what shows the loss: whoever dies between leaves it to the next start to find the same. It may so change more
 * than once for one loss, which harms nobody: between the changes nothing was served.
 */
import type { MetaStore } from '@store/core';
import type { Engine } from './engine.js';
import { LINEAGE_BYTES, LINEAGE_KEY, sealed, unseal } from './format.js';
import { noSpaceForMetadata } from './persister.js';

/** Of a folder that never lost anything, and of each that an earlier release has made. */
const FIRST_LINEAGE: Buffer = Buffer.alloc(LINEAGE_BYTES);

/**
 * The lineage this start goes on with: a new one, durably, if writes may be lost. Call it before `live` is begun anew.
 * @throws StoreError `E_NO_SPACE`, `E_DISK_FAILED`
 */
export async function continueLineage(engine: Engine, isLost: boolean): Promise<Buffer> {
  const lineage = readLineage(engine.meta);
  if (lineage === null)
    engine.log.error(
      { path: engine.disk.path },
      'The record of the lineage does not match its checksum: a new one begins, as after a loss',
    );
  return lineage === null || isLost ? renewLineage(engine) : lineage;
}

/** @returns null if the record is damaged: nobody can say what was lost since it was written */
function readLineage(meta: MetaStore): Buffer | null {
  const value = meta.get(LINEAGE_KEY);
  if (value === null) return FIRST_LINEAGE;
  const lineage = unseal(LINEAGE_KEY, value);
  return lineage?.length === LINEAGE_BYTES ? Buffer.from(lineage) : null;
}

function renewLineage(engine: Engine): Promise<Buffer> {
  const lineage = engine.env.random.bytes(LINEAGE_BYTES);
  return new Promise((resolve, reject) => {
    engine.committer.add({
      build: (transaction) => transaction.change(LINEAGE_KEY, sealed(LINEAGE_KEY, lineage)),
      committed: (error) => {
        if (error === null) resolve(lineage);
        else reject(engine.failure ?? noSpaceForMetadata(engine.disk.path));
      },
    });
  });
}

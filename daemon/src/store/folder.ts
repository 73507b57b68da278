/** Making a folder into a store, and knowing one. */
import {
  BLOCK_BYTES,
  StoreError,
  crc32c,
  type DataFile,
  type Disk,
  type Env,
  type MetaStore,
} from '@store/core';
import {
  FORMAT_VERSION,
  STORE_KEY,
  decodeStoreRecord,
  encodeStoreRecord,
  recordAhead,
  unknownVersion,
  type StoreRecord,
} from './format.js';

/** Written last when a folder is made: its presence says that the rest is complete. */
const FORMAT_FILE = 'format';

// Label at the start of the data file, big-endian: magic, format version u32, disk id, CRC-32C u32; zeros to 4 KiB.
const LABEL_MAGIC = Buffer.from('store/1\n');
const LABEL_BYTES = LABEL_MAGIC.length + 4 + 16 + 4;

/**
 * @returns false if nothing was ever stored here, or a first start did not come to its end
 * @throws StoreError `E_FORMAT`
 */
export function isFormatted(disk: Disk): boolean {
  const text = disk.readSmallFile(FORMAT_FILE)?.toString();
  if (text === undefined) return false;
  const version = /^store (\d+)\n/.exec(text)?.[1];
  if (version === String(FORMAT_VERSION)) return true;
  throw new StoreError(
    'E_FORMAT',
    `'${disk.path}': ${version === undefined ? 'the file `format` was not written by this program' : unknownVersion(version)}`,
  );
}

/** Formats an empty folder. Killed in the middle, it is done again. */
export async function createFolder(env: Env, disk: Disk, create: boolean): Promise<void> {
  if (!create)
    throw new StoreError(
      'E_NOT_FOUND',
      `There is no store in '${disk.path}'; make one with: store-image create --dir ${disk.path}`,
    );
  const isOurs = disk.readSmallFile('format.making') !== null;
  if (!disk.isEmpty() && !isOurs)
    throw new StoreError(
      'E_FORMAT',
      `'${disk.path}' holds something else than a store; choose an empty folder`,
    );
  disk.writeSmallFile('format.making', Buffer.from('A store is being made here.\n'));
  const diskId = env.random.bytes(16);
  const data = disk.openDataFile('data');
  await new Promise<void>((resolve, reject) => {
    data.write(0, [encodeLabel(diskId)], (error) => {
      if (error !== null) reject(error);
      else data.sync((syncError) => (syncError === null ? resolve() : reject(syncError)));
    });
  });
  data.close();
  const meta = disk.openMetaStore('meta');
  const record: StoreRecord = {
    diskId,
    startId: env.random.bytes(16),
    clean: true,
    liveSequence: 0,
    nextObjectId: 1,
    nextPoolId: 1,
  };
  await commitRecord(meta, record);
  await meta.close();
  disk.writeSmallFile(
    FORMAT_FILE,
    Buffer.from(
      `store ${FORMAT_VERSION}\ndisk ${diskId.toString('hex')}\nmade ${env.clock.wallTime()}\n`,
    ),
  );
  disk.removeSmallFile('format.making');
}

/**
 * Reads the record of the folder and begins a new start of it, durably. If it was clean it stays so until `live` is begun
 * anew: a start that dies before has not served anything, and the next one shall not think that something was lost.
 * @returns the record with a new start id, and how the last start ended
 * @throws StoreError `E_FORMAT`, `E_CHECKSUM`
 */
export async function beginStart(
  env: Env,
  disk: Disk,
  data: DataFile,
  meta: MetaStore,
): Promise<{ record: StoreRecord; wasClean: boolean }> {
  const value = meta.get(STORE_KEY);
  if (value === null)
    throw new StoreError('E_FORMAT', `'${disk.path}': the metadata is empty; restore the folder`);
  const record = decodeStoreRecord(value);
  const label = Buffer.alloc(BLOCK_BYTES);
  await new Promise<void>((resolve, reject) => {
    data.read(0, label, (error) => (error === null ? resolve() : reject(error)));
  });
  if (!encodeLabel(record.diskId).equals(label))
    throw new StoreError(
      'E_FORMAT',
      `'${disk.path}': the files data and meta do not belong together, or the label of data is damaged`,
    );
  const started = { ...record, startId: env.random.bytes(16) };
  await commitRecord(meta, recordAhead(started));
  return { record: started, wasClean: record.clean };
}

/** Makes the record durable by itself; nothing else may be committed meanwhile. @throws DiskError */
export function commitRecord(meta: MetaStore, record: StoreRecord): Promise<void> {
  return new Promise((resolve, reject) => {
    meta.commit([{ key: STORE_KEY, value: encodeStoreRecord(record) }], (error) =>
      error === null ? resolve() : reject(error),
    );
  });
}

function encodeLabel(diskId: Buffer): Buffer {
  const label = Buffer.alloc(BLOCK_BYTES);
  LABEL_MAGIC.copy(label);
  label.writeUInt32BE(FORMAT_VERSION, LABEL_MAGIC.length);
  diskId.copy(label, LABEL_MAGIC.length + 4);
  label.writeUInt32BE(crc32c(label.subarray(0, LABEL_BYTES - 4)), LABEL_BYTES - 4);
  return label;
}

/**
 * What a daemon keeps of its cluster in its folder, beside the data: which cluster the folder belongs to, the newest map
 * it has seen, and the secrets of pools. So it serves after a restart while no master answers, and a master whose state
 * is lost or old can be told so, and helped.
 *
 *     cluster        JSON { format, clusterId, daemonId, secrets, lineage }; for the owner alone, as it holds secrets
 *     cluster-map    the encoded map
 */
import {
  decodeMap,
  encodeMap,
  messageOf,
  PoolSecret,
  StoreError,
  type Disk,
  type Log,
  type StorageMap,
} from '@store/core';

const FILE = 'cluster';
const MAP_FILE = 'cluster-map';
const FORMAT = 'store cluster membership 1';
const ID = /^[0-9a-f]{32}$/;

export interface Membership {
  readonly clusterId: string;
  readonly daemonId: number;
  readonly secrets: readonly PoolSecret[];
  /** Of the folder when a master has answered its registration the last time, in hexadecimal; empty: that is not known. */
  readonly lineage: string;
}

export class MembershipFiles {
  readonly #disk: Disk;
  readonly #log: Log;

  constructor(disk: Disk, log: Log) {
    this.#disk = disk;
    this.#log = log;
  }

  /** Null: the folder belongs to no cluster. @throws StoreError `E_FORMAT` if the file is damaged */
  read(): Membership | null {
    const bytes = this.#disk.readSmallFile(FILE);
    if (bytes === null) return null;
    try {
      const value = JSON.parse(bytes.toString()) as Record<string, unknown>;
      const { format, clusterId, daemonId, secrets, lineage = '' } = value;
      if (format !== FORMAT) throw new Error(`its format is not "${FORMAT}"`);
      if (typeof clusterId !== 'string' || !ID.test(clusterId)) throw new Error('a wrong cluster');
      if (!Number.isInteger(daemonId) || !Array.isArray(secrets)) throw new Error('wrong fields');
      if (typeof lineage !== 'string') throw new Error('a wrong lineage');
      const texts = secrets as unknown[];
      const parsed = texts.map((text) => PoolSecret.parse(FILE, String(text)));
      return { clusterId, daemonId: Number(daemonId), secrets: parsed, lineage };
    } catch (error) {
      throw new StoreError(
        'E_FORMAT',
        `${this.#disk.path}/${FILE}, which says which cluster the folder belongs to, cannot be used (${messageOf(error)}); remove it, and the daemon registers anew with the cluster it had`,
      );
    }
  }

  /** The newest map that was kept; null: none, or it is damaged, which is said in the log. */
  readMap(): StorageMap | null {
    const bytes = this.#disk.readSmallFile(MAP_FILE);
    if (bytes === null) return null;
    try {
      return decodeMap(bytes);
    } catch (error) {
      this.#log.error(
        { path: this.#disk.path },
        `The map of the cluster that was kept cannot be used, and is fetched anew: ${messageOf(error)}`,
      );
      return null;
    }
  }

  /** Durable when it returns. @throws DiskError */
  write({ clusterId, daemonId, secrets, lineage }: Membership): void {
    const texts = secrets.map((secret) => secret.toText());
    const document = { format: FORMAT, clusterId, daemonId, secrets: texts, lineage };
    this.#disk.writeSmallFile(FILE, Buffer.from(`${JSON.stringify(document)}\n`));
  }

  /** Durable when it returns. @throws DiskError */
  writeMap(map: StorageMap): void {
    this.#disk.writeSmallFile(MAP_FILE, encodeMap(map));
  }
}

/**
 * Looks at the file of an LMDB environment before LMDB maps it: touching a page of the map that lies past the end of
 * the file ends the process with SIGBUS, and no message.
 *
 * The last page that was ever allocated is no measure, since a file may end earlier if the last pages are free. So of
 * a file that is shorter, everything its trees reach is looked up; that happens after damage, and rarely otherwise.
 */
import fs from 'node:fs';
import { messageOf } from '../util/errors.js';
import { DiskError } from './disk.js';

// A page, little-endian as this machine; LMDB's mdb.c, data version 2. Nodes lie at the offsets listed after the header.
const AT_FLAGS = 18; //  2  P_BRANCH, P_LEAF…
const AT_LOWER = 20; //  2  bytes of the offsets that follow
const HEADER_BYTES = 24;
const P_BRANCH = 1;
const P_LEAF = 2;

// A meta page. The two are pages 0 and 1, and the one with the higher transaction counts.
const AT_MAGIC = 24; //        4  MAGIC
const AT_VERSION = 28; //      4  in the low 16 bits
const AT_PAGE_BYTES = 48; //   4
const AT_FREE_ROOT = 88; //    8  root of the tree of free pages
const AT_MAIN_ROOT = 136; //   8  root of the tree of data
const AT_LAST_PAGE = 144; //   8
const AT_TRANSACTION = 152; // 8
const META_BYTES = 160;
const MAGIC = 0xbeefc0de;
const VERSION = 2;
const NO_PAGE = 2n ** 64n - 1n;
const PAGE_BYTES_MIN = 512;
const PAGE_BYTES_MAX = 65_536;

// A node.
const AT_LOW = 0; //        4  of the page number below, or the length of the value
const AT_NODE_FLAGS = 4; // 2  F_BIGDATA…, or the high 16 bits of the page number
const AT_KEY_BYTES = 6; //  2
const NODE_BYTES = 8;
const F_BIGDATA = 1;
// After the key of a node with F_BIGDATA.
const AT_RUN = 0; //        8  first page of the value
const AT_RUN_PAGES = 16; // 8

/**
 * Checks that a file of metadata holds every page it refers to. One that is not there, is empty, or of a version we do
 * not know is LMDB's to judge.
 * @throws DiskError `EIO` if it was cut short
 */
export function checkMetaFile(path: string): void {
  let fd: number;
  try {
    fd = fs.openSync(path, 'r');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return;
    throw new DiskError('EIO', `cannot read ${path}: ${messageOf(error)}`, { cause: error });
  }
  try {
    new MetaFile(path, fd).check();
  } finally {
    fs.closeSync(fd);
  }
}

class MetaFile {
  readonly #path: string;
  readonly #fd: number;
  readonly #bytes: number;
  #pageBytes = 0;

  constructor(path: string, fd: number) {
    this.#path = path;
    this.#fd = fd;
    this.#bytes = fs.fstatSync(fd).size;
  }

  check(): void {
    if (this.#bytes === 0) return;
    const first = this.#read(0, META_BYTES);
    if (first.readUInt32LE(AT_MAGIC) !== MAGIC || first.readUInt16LE(AT_VERSION) !== VERSION)
      return;
    this.#pageBytes = first.readUInt32LE(AT_PAGE_BYTES);
    if (this.#pageBytes < PAGE_BYTES_MIN || this.#pageBytes > PAGE_BYTES_MAX)
      throw this.#damage(`says that its pages have ${this.#pageBytes} bytes`);
    const second = this.#read(this.#pageBytes, META_BYTES);
    const isSecond = second.readBigUInt64LE(AT_TRANSACTION) > first.readBigUInt64LE(AT_TRANSACTION);
    const meta = isSecond ? second : first;
    const pages = meta.readBigUInt64LE(AT_LAST_PAGE) + 1n;
    if (pages * BigInt(this.#pageBytes) <= this.#bytes) return;
    this.#follow([meta.readBigUInt64LE(AT_FREE_ROOT), meta.readBigUInt64LE(AT_MAIN_ROOT)]);
  }

  /** Every page that the trees under `roots` reach is there. */
  #follow(roots: readonly bigint[]): void {
    const seen = new Set<number>();
    const left = roots.filter((root) => root !== NO_PAGE).map(Number);
    for (let page = left.pop(); page !== undefined; page = left.pop()) {
      if (seen.has(page)) throw this.#damage(`refers to page ${page} twice`);
      seen.add(page);
      left.push(...this.#below(page));
    }
  }

  /** The pages of the tree right below this one. */
  #below(number: number): number[] {
    const page = this.#read(number * this.#pageBytes, this.#pageBytes);
    const flags = page.readUInt16LE(AT_FLAGS);
    if ((flags & (P_BRANCH | P_LEAF)) === 0)
      throw this.#damage(`has no part of a tree on page ${number}`);
    const children: number[] = [];
    const end = Math.min(HEADER_BYTES + page.readUInt16LE(AT_LOWER), this.#pageBytes - 1);
    for (let at = HEADER_BYTES; at < end; at += 2) {
      const node = HEADER_BYTES + page.readUInt16LE(at);
      if (node + NODE_BYTES > this.#pageBytes)
        throw this.#damage(`has a node outside page ${number}`);
      const low = page.readUInt32LE(node + AT_LOW);
      const high = page.readUInt16LE(node + AT_NODE_FLAGS);
      if ((flags & P_BRANCH) !== 0) children.push(high * 2 ** 32 + low);
      else if ((high & F_BIGDATA) !== 0)
        this.#checkRun(page, node + NODE_BYTES + page.readUInt16LE(node + AT_KEY_BYTES));
    }
    return children;
  }

  /** A long value has pages of its own. */
  #checkRun(page: Buffer, at: number): void {
    if (at + AT_RUN_PAGES + 8 > page.length) throw this.#damage('has a value outside its page');
    const end = page.readBigUInt64LE(at + AT_RUN) + page.readBigUInt64LE(at + AT_RUN_PAGES);
    if (end * BigInt(this.#pageBytes) > this.#bytes) throw this.#short(Number(end));
  }

  #read(at: number, bytes: number): Buffer {
    if (at + bytes > this.#bytes)
      throw this.#short(this.#pageBytes === 0 ? 1 : Math.floor(at / this.#pageBytes) + 1);
    const target = Buffer.alloc(bytes);
    let read: number;
    try {
      read = fs.readSync(this.#fd, target, 0, bytes, at);
    } catch (error) {
      throw new DiskError('EIO', `cannot read ${this.#path}: ${messageOf(error)}`, {
        cause: error,
      });
    }
    if (read < bytes) throw this.#damage(`could be read only in part at byte ${at}`);
    return target;
  }

  #short(pages: number): DiskError {
    const had =
      this.#pageBytes === 0
        ? 'a page'
        : `page ${pages - 1}, which ends at byte ${pages * this.#pageBytes}`;
    return this.#damage(`was cut short: it has ${this.#bytes} bytes and refers to ${had}`);
  }

  #damage(what: string): DiskError {
    return new DiskError('EIO', `the metadata file ${this.#path} ${what}; restore the folder`);
  }
}

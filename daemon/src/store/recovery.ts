/**
 * What happens to a folder whose last process did not say goodbye.
 *
 * Same boot, same device: the kernel kept every answered write, and `live` says which ones the metadata does not know
 * of yet. They are taken over, so that a killed process loses nothing. Otherwise `live` is ignored: what was not
 * flushed may be old or new, and the metadata tells what was.
 *
 * Killed in the middle, it runs again from the start: nothing in `live` is dropped before all of it is recorded, and
 * nobody else writes meanwhile.
 */
import {
  BLOCKS_PER_OBJECT,
  BLOCK_BYTES,
  BLOCK_STATE,
  StoreError,
  promised,
  type DiskError,
} from '@store/core';
import type { Engine } from './engine.js';
import {
  BLOCKS_PER_PART,
  HEADS_END,
  HEADS_START,
  NO_SLOT,
  decodeHead,
  hasOpenParts,
  splitHeadKey,
  unseal,
} from './format.js';
import { readLive, type LiveObject, type LiveRecord } from './live-log.js';
import { printable, type ObjectTable } from './object-table.js';
import { noSpaceForMetadata, type Persister } from './persister.js';
import { slotPosition } from './slot-map.js';
import { PART, type StoredObject } from './stored-object.js';

const PAGE = 1000;

type ParkedRecord = Extract<LiveRecord, { type: 'parked' }>;

export interface Recovered {
  /** Heads with open parts, to be closed in the background. */
  readonly leftOpen: Buffer[];
  /** Answered writes that were not flushed may be gone. */
  readonly lostUnflushed: boolean;
}

/** Brings metadata, data and `live` together. The engine must be idle. */
export async function recover(
  engine: Engine,
  table: ObjectTable,
  persister: Persister,
  wasClean: boolean,
): Promise<Recovered> {
  const recorded = engine.record.liveSequence;
  const records = wasClean ? [] : readLive(engine.disk, engine.disk.bootToken(), recorded);
  for (const record of records ?? [])
    if (record.type !== 'landed') engine.skipObjectId(record.object.objectId);
  const touched = new Set<StoredObject>();
  const parked = replay(engine, records ?? [], table, persister, touched);
  forgetGone(persister, touched, parked);
  const leftOpen = claimSlots(engine, table);
  if (records !== null && records.length > 0) {
    engine.log.info(
      { records: records.length, objects: touched.size, parked: parked.length },
      'Taking over what a killed process had answered',
    );
    // Marks the parts as open before anything is written over them.
    for (const record of parked) expectOverwrite(table, record, persister);
    await promised((done) => persister.flush(done));
    for (const record of parked) await land(engine, table, persister, record);
    // The files are emptied one after the other; a record of the second alone must not be believed then.
    engine.live.skipTo(records.at(-1)?.sequence ?? 0);
    await promised((done) => persister.flush(done));
    await commitLiveSequence(engine);
  }
  return { leftOpen, lostUnflushed: !wasClean && records === null };
}

function commitLiveSequence(engine: Engine): Promise<void> {
  return new Promise((resolve, reject) => {
    engine.committer.add({
      build: () => engine.setLiveSequence(engine.live.sequence),
      committed: (error) => {
        if (error === null) resolve();
        else reject(engine.failure ?? noSpaceForMetadata(engine.disk.path));
      },
    });
  });
}

/**
 * Applies the records to the objects in memory, which are marked as changed at once: others come in, and what is not
 * changed may be evicted to make room for them.
 * @returns writes that are not in their place
 */
function replay(
  engine: Engine,
  records: readonly LiveRecord[],
  table: ObjectTable,
  persister: Persister,
  touched: Set<StoredObject>,
): ParkedRecord[] {
  const landed = new Set<number>();
  for (const record of records) if (record.type === 'landed') landed.add(record.of);
  const parked: ParkedRecord[] = [];
  for (const record of records) {
    if (record.type === 'landed') continue;
    const object = table.findByHeadKey(record.object.headKey, record.object.kind);
    // The metadata knows a later life of that name.
    if (object.broken !== null || object.objectId > record.object.objectId) continue;
    if (record.type === 'removed') {
      // A head that is still there: its removal was not answered.
      if (object.durable === null) {
        persister.forget(object);
        object.reset();
        touched.delete(object);
      }
      continue;
    }
    takeOver(object, record.object);
    // A parked write gets its version when it lands, and others none that is in `live`.
    if (object.isReplicated) object.isUnsure = true;
    else object.version = Math.max(object.version, engine.startVersion);
    touched.add(object);
    persister.markChanged(object);
    if (record.type === 'parked') {
      if (landed.has(record.sequence))
        setStates(object, record.first, record.bytes.length / BLOCK_BYTES, BLOCK_STATE.data);
      else parked.push(record);
    } else setStates(object, record.first, record.count, record.state);
  }
  return parked;
}

/** What came and went again owns nothing: its slot may long be another's. */
function forgetGone(
  persister: Persister,
  touched: Set<StoredObject>,
  parked: readonly ParkedRecord[],
): void {
  const awaited = new Set(parked.map((record) => record.object.headKey.toString('latin1')));
  for (const object of touched) {
    if (object.exists || object.durable !== null) continue;
    if (awaited.has(object.headKey.toString('latin1'))) continue;
    persister.forget(object);
    object.reset();
    touched.delete(object);
  }
}

function takeOver(object: StoredObject, from: LiveObject): void {
  if (object.objectId !== from.objectId) {
    if (object.objectId !== 0) object.reset();
    object.create(from.kind, from.objectId);
  }
  if (object.inline && from.slot !== NO_SLOT) {
    object.inline = false;
    object.hasStaleContent = true;
  }
  object.kind = from.kind;
  object.slot = from.slot;
  object.length = Math.max(object.length, from.length);
  object.version = Math.max(object.version, from.version);
}

function setStates(object: StoredObject, first: number, count: number, state: number): void {
  for (let block = first; block < first + count; block += 1) {
    object.setState(block, state);
    if (state !== BLOCK_STATE.data) continue;
    // Written without being opened: nothing durable was there. Its checksums are made at the first touch.
    const part = Math.floor(block / BLOCKS_PER_PART);
    if (object.parts[part] === PART.empty) object.parts[part] = PART.suspect;
  }
}

function expectOverwrite(table: ObjectTable, record: ParkedRecord, persister: Persister): void {
  const object = table.findByHeadKey(record.object.headKey, record.object.kind);
  const last = record.first + record.bytes.length / BLOCK_BYTES - 1;
  for (let block = record.first; block <= last; block += BLOCKS_PER_PART)
    markSuspect(object, block);
  markSuspect(object, last);
  persister.markChanged(object);
}

function markSuspect(object: StoredObject, block: number): void {
  const part = Math.floor(block / BLOCKS_PER_PART);
  if (object.parts[part] === PART.closed) object.parts[part] = PART.suspect;
}

async function land(
  engine: Engine,
  table: ObjectTable,
  persister: Persister,
  record: ParkedRecord,
): Promise<void> {
  const object = table.findByHeadKey(record.object.headKey, record.object.kind);
  const position = slotPosition(object.slot) + record.first * BLOCK_BYTES;
  await new Promise<void>((resolve, reject) => {
    engine.data.write(position, [record.bytes], (error: DiskError | null) => {
      if (error === null) resolve();
      else reject(engine.fail(error));
    });
  });
  engine.sync.wrote(record.bytes.length);
  setStates(object, record.first, record.bytes.length / BLOCK_BYTES, BLOCK_STATE.data);
  persister.markChanged(object);
}

/** Finds out which slots are taken and which image data there is. @returns keys of the heads with open parts */
function claimSlots(engine: Engine, table: ObjectTable): Buffer[] {
  const leftOpen: Buffer[] = [];
  let unreadable = 0;
  const doubled: number[] = [];
  const claim = (slot: number): void => {
    if (slot !== NO_SLOT && !engine.slots.take(slot)) doubled.push(slot);
  };
  forEachHead(engine, (key, value) => {
    const { poolId, key: name } = splitHeadKey(key);
    table.present.add(poolId, name.toString('latin1')); // readable or not
    const known = table.cached(key);
    if (known !== undefined && known.broken === null) return; // memory knows better
    const head = unseal(key, value);
    if (head === null) {
      unreadable += 1;
      return;
    }
    if (hasOpenParts(head)) leftOpen.push(key);
    claim(decodeHead(head).slot);
  });
  for (const object of table.objects()) if (object.version > 0) claim(object.slot);
  if (doubled.length > 0) markDoubled(engine, table, new Set(doubled));
  if (unreadable > 0) {
    const end = Math.ceil(engine.data.size() / slotPosition(0));
    engine.log.error(
      { records: unreadable },
      'Records of objects do not match their checksums; no slot that may be theirs is used again. Run store check',
    );
    engine.slots.reserveBelow(end);
  }
  return leftOpen;
}

/** Two objects claim one slot: nobody can say whose the bytes are, so neither is served. */
function markDoubled(engine: Engine, table: ObjectTable, slots: ReadonlySet<number>): void {
  const suspect = (object: StoredObject): void => {
    object.broken = new StoreError(
      'E_CHECKSUM',
      `Object '${printable(object.name)}' shares slot ${object.slot} with another object`,
    );
    engine.log.error({ object: printable(object.name), slot: object.slot }, object.broken.message);
  };
  forEachHead(engine, (key, value) => {
    const head = unseal(key, value);
    if (head === null) return;
    const { slot, kind } = decodeHead(head);
    if (slots.has(slot)) table.findByHeadKey(key, kind);
  });
  for (const object of table.objects())
    if (object.version > 0 && slots.has(object.slot)) suspect(object);
}

export function forEachHead(engine: Engine, visit: (key: Buffer, value: Buffer) => void): void {
  let start = HEADS_START;
  for (;;) {
    const page = engine.meta.range(start, HEADS_END, PAGE);
    for (const { key, value } of page) visit(key, value);
    const last = page.at(-1);
    if (last === undefined || page.length < PAGE) return;
    start = Buffer.concat([last.key, Buffer.from([0])]);
  }
}

/** Gives back the space of slots that nobody owns: a crash may have come before their holes. */
export async function punchFreeSlots(engine: Engine): Promise<void> {
  const slotBytes = BLOCKS_PER_OBJECT * BLOCK_BYTES;
  const end = Math.ceil(engine.data.size() / slotBytes) - 1;
  for (let slot = 0; slot < end; slot += 1) {
    const first = slot;
    while (slot < end && !engine.slots.isTaken(slot)) slot += 1;
    if (slot === first) continue;
    await new Promise<void>((resolve) => {
      engine.data.punch(slotPosition(first), (slot - first) * slotBytes, () => resolve());
    });
  }
}

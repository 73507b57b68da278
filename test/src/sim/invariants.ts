/**
 * What must hold at every moment, seen from outside of all processes: what each disk holds, what the masters have decided,
 * who answers what. See FAULTS.md 3.3; the numbers in messages are those there.
 */
import { BLOCK_STATE, crc32c, groupOf, OBJECT_KIND, type MapGroup } from '@store/core';
import type { ClusterState } from '@store/master';
import {
  CELL_BYTES,
  CELLS_PER_BLOCK,
  MISSING_TAG,
  ZERO_TAG,
  type History,
  type OpRecord,
  type UsedObject,
} from './history.js';
import { OrderWatch } from './order-watch.js';
import type { ModelImage } from './image-model.js';
import { ZEROS, type ObjectImage, type SimObject } from './sim-disk.js';
import type { DaemonWatcher, SimDaemon } from './sim-daemon.js';
import type { SimMasters } from './sim-master.js';
import { POOL_ID } from './sim-master.js';
import type { Answer, Request } from './sim-messages.js';
import type { SimWorld } from './sim-world.js';
import type { WorkWatcher } from './workload.js';

export class Invariants implements DaemonWatcher, WorkWatcher {
  readonly #world: SimWorld;
  readonly #history: History;
  readonly #daemons: readonly SimDaemon[];
  readonly #masters: () => SimMasters;
  readonly order: OrderWatch;
  /** By group: the newest epoch in which something was answered, and by whom. */
  readonly #served = new Map<number, { readonly epoch: number; readonly startId: string }>();
  readonly #epochs = new Map<number, number>();
  readonly #areStopsClean: boolean;

  constructor(
    world: SimWorld,
    history: History,
    daemons: readonly SimDaemon[],
    { masters, areStopsClean }: { masters: () => SimMasters; areStopsClean: boolean },
  ) {
    this.#areStopsClean = areStopsClean;
    this.#world = world;
    this.#history = history;
    this.#daemons = daemons;
    this.#masters = masters;
    this.order = new OrderWatch(world, (group) => this.groupNow(group));
  }

  groupNow(group: number): MapGroup | undefined {
    return this.#masters().state.map.pools[0]?.groups[group];
  }

  /** The masters have decided something. */
  decided({ map }: ClusterState): void {
    for (const [number, group] of map.pools[0]?.groups.entries() ?? []) {
      const before = this.#epochs.get(number) ?? 0;
      if (group.epoch === before) continue;
      if (group.epoch < before)
        this.#world.fail(`I2: group ${number} went back to epoch ${group.epoch}`);
      this.#epochs.set(number, group.epoch);
      if (group.lostAt > 0) this.#history.lost(number, group.lostAt);
      if (group.givenUpAt > 0) this.#history.givenUp(number, group.givenUpAt);
      if (group.givenUpAt === group.epoch)
        this.#world.sometimes('an operator gave up a copy that nobody has any more');
      if (group.lostAt === group.epoch) this.#world.sometimes('a group lost unflushed writes');
      if (this.#world.isTraced) {
        const members = group.members.map(({ daemon, inSync }) =>
          inSync === null ? `(${daemon})` : `${daemon}:${inSync.slice(0, 6)}`,
        );
        this.#world.trace(
          'm',
          `group ${number} epoch ${group.epoch}: ${members.join(' ')}${group.lostAt === group.epoch ? ' LOST' : ''}`,
        );
      }
    }
  }

  /** A daemon was stopped as planned, and knew that nobody waits for it. */
  stopped({ name }: SimDaemon, startId: string): void {
    if (!this.#areStopsClean) return;
    this.#world.sometimes('a daemon that had stopped counted nowhere');
    for (const [number, { members }] of this.#masters().state.map.pools[0]?.groups.entries() ??
      []) {
      const inSync = members.filter((member) => member.inSync !== null);
      if (inSync.length > 1 && inSync.some((member) => member.inSync === startId))
        this.#world.fail(`${name} has stopped and is waited for in group ${number}`);
    }
  }

  answering(daemon: SimDaemon, request: Request, { error }: Answer): void {
    if (error !== null) return;
    const { group, epoch, op } = request;
    const served = this.#served.get(group);
    const startId = daemon.process?.startId ?? '';
    const isRead = op === 'read' || op === 'stat';
    if (isRead && served !== undefined && epoch < served.epoch && startId !== served.startId)
      this.#world.fail(
        `I1: ${daemon.name} answered a ${op} of group ${group} in epoch ${epoch}, after somebody else had served epoch ${served.epoch}`,
      );
    if (op === 'flush') return;
    if (epoch >= (served?.epoch ?? 0)) this.#served.set(group, { epoch, startId });
    if (op === 'write' || op === 'zero') this.#lookAtCopies(request);
  }

  /**
   * I3: what is answered is with all members of the set. But whoever was paused may answer late: the group may have lost what
   * was not flushed since, of which the client hears at its next flush; or the client may have its answer from another one.
   */
  #lookAtCopies(request: Request): void {
    const object = this.#history.objects.find(({ ref }) => ref.place === request.ref.place);
    if (object?.use !== 'own' || !this.#isAwaited(object, request)) return;
    if (request.epoch < (this.groupNow(object.group)?.lostAt ?? 0)) return;
    for (const { name, copy } of this.#copies(object)) {
      const problem = differenceOf(copy?.now ?? null, request);
      if (problem === null) continue;
      this.#world.fail(
        `I3: ${request.op} of '${request.ref.id}' at ${request.offset} was answered in epoch ${request.epoch}, and block ${problem} of ${name}, in sync by the masters, does not have it`,
      );
      return;
    }
  }

  /** Only one client writes to such an object, and one request at a time to each of its cells. */
  #isAwaited(object: UsedObject, { op, offset }: Request): boolean {
    return this.#history.ops.some(
      (one) =>
        one.object === object &&
        one.kind === op &&
        one.answeredAt === Infinity &&
        one.from * CELL_BYTES <= offset &&
        offset < one.to * CELL_BYTES,
    );
  }

  flushed(writes: readonly OpRecord[]): void {
    for (const write of writes) {
      const { object, from, to, tag } = write;
      if (object.use !== 'own' || !this.#isNewest(write)) continue;
      // Groups are flushed one by one; one may be given up until the last of them is.
      if (!this.#history.isKept(write, Infinity)) continue;
      for (const { name, copy } of this.#copies(object)) {
        const image = copy?.durable ?? null;
        for (let cell = from; cell < to; cell += 1) {
          const there = tagIn(image, cell);
          if (there === tag || there === null) continue;
          this.#world.fail(
            `I3: write ${tag} of '${object.ref.id}' (group ${object.group}) was made durable in epoch ${write.epoch}, says a flush, and ${name}, in sync by the masters, has ${there} in cell ${cell} durably`,
          );
          return;
        }
      }
    }
  }

  unreadable({ object, from, to, calledAt }: OpRecord): void {
    const first = Math.floor(from / CELLS_PER_BLOCK);
    const last = Math.ceil(to / CELLS_PER_BLOCK) - 1;
    const isBeside = (one: OpRecord): boolean =>
      one.object === object &&
      one.kind !== 'read' &&
      one.kind !== 'stat' &&
      one.answeredAt > calledAt &&
      one.from < (last + 1) * CELLS_PER_BLOCK &&
      first * CELLS_PER_BLOCK < one.to;
    // What is written over a bad block makes it good, maybe after it was answered.
    if (this.#history.ops.some(isBeside)) return;
    const copies = this.#copies(object);
    for (let block = first; block <= last; block += 1)
      if (!copies.some(({ copy }) => copy === null || copy.goodBytes(block) !== null)) {
        this.#world.sometimes('no good copy was left');
        return;
      }
    this.#world.fail(
      `I9: blocks ${first} to ${last} of '${object.ref.id}' were answered as unreadable, and each of them has a good copy`,
    );
  }

  /** Whether a block of a disk may be damaged: another member that is in sync and there has it, and it is good. */
  mayDamage(daemon: SimDaemon, object: SimObject, block: number): boolean {
    const pool = this.#masters().state.map.pools[0];
    if (pool === undefined || object.isInline) return false;
    const group = pool.groups[groupOf(pool, object.object.hash)];
    if (group === undefined) return false;
    return this.#membersInSync(group).some((other) => {
      if (other === daemon) return false;
      const copy = other.disk.shelf(POOL_ID).objects.get(object.object.place);
      return (
        copy?.now.exists === true &&
        copy.now.checks[block] === object.now.checks[block] &&
        copy.goodBytes(block) !== null
      );
    });
  }

  /** Whether a disk may be lost as a whole: each group it is in sync in has another one that is, and is undamaged. */
  mayLose(daemon: SimDaemon): boolean {
    for (const group of this.#masters().state.map.pools[0]?.groups ?? []) {
      const own = this.#daemonIds(daemon);
      if (!group.members.some(({ daemon: id, inSync }) => inSync !== null && own.has(id))) continue;
      const others = this.#membersInSync(group).filter((other) => other !== daemon);
      if (!others.some((other) => isUndamaged(other))) return false;
    }
    return true;
  }

  /** Whether a disk has what no other one has, and each group of which that is so has another copy, which is older. */
  isOnlyInSync(daemon: SimDaemon): boolean {
    const own = this.#daemonIds(daemon);
    const groups = this.#masters().state.map.pools[0]?.groups ?? [];
    const alone = groups.filter(({ members }) => {
      const inSync = members.filter((member) => member.inSync !== null);
      return inSync.length > 0 && inSync.every((member) => own.has(member.daemon));
    });
    return (
      alone.length > 0 &&
      alone.every(({ members }) =>
        members.some((one) => one.inSync === null && this.#hasDisk(one.daemon)),
      )
    );
  }

  /**
   * Whether all that are in sync in some group were disks that are no more, and no operator goes on with a copy that is not.
   * @param acceptsLosses - There is one who does
   */
  isLost(acceptsLosses: boolean): boolean {
    return (
      this.#masters().state.map.pools[0]?.groups.some(({ members }) =>
        members.every(
          ({ daemon, inSync }) => (inSync === null && !acceptsLosses) || !this.#hasDisk(daemon),
        ),
      ) ?? false
    );
  }

  #hasDisk(daemon: number): boolean {
    const { map } = this.#masters().state;
    const diskId = map.daemons.find(({ id }) => id === daemon)?.diskId;
    return this.#daemons.some(({ disk }) => disk.diskId === diskId);
  }

  /** Why not all is as it should be after the healing; null: it is. */
  problemOfRedundancy(): string | null {
    const pool = this.#masters().state.map.pools[0];
    if (pool === undefined) return 'there is no pool';
    for (const [number, group] of pool.groups.entries()) {
      const wanted = Math.min(pool.replicas, this.#daemons.length);
      const inSync = this.#membersInSync(group).length;
      if (inSync < wanted || group.members.length > wanted)
        return `group ${number} in epoch ${group.epoch} has ${inSync} of ${wanted} members in sync, and lists ${JSON.stringify(group.members.map(({ daemon, inSync: start }) => `${daemon}:${start?.slice(0, 6) ?? 'joins'}`))}`;
    }
    return null;
  }

  /** I11: what differs between two copies of a group; null: nothing. */
  problemOfCopies(): string | null {
    const pool = this.#masters().state.map.pools[0];
    for (const [number, group] of pool?.groups.entries() ?? []) {
      const [first, ...others] = this.#membersInSync(group);
      if (first === undefined) continue;
      for (const other of others) {
        const problem = this.#compare(number, first, other);
        if (problem !== null) return problem;
      }
    }
    return null;
  }

  /** I10: what is left of an image that was removed; null: nothing. */
  problemOfRemoved(images: Iterable<ModelImage>): string | null {
    const pool = this.#masters().state.map.pools[0];
    if (pool === undefined) return null;
    const patterns = [...images]
      .filter(({ removedAt }) => removedAt < Infinity)
      .map(({ header: { id, layers }, openRaises }) => {
        const data = `${layers[0].id}_`;
        // Who dies while it raises guards of an image that goes leaves some behind: 152 bytes that mean nothing.
        return new RegExp(openRaises > 0 ? `^${data}` : `^(${data}|guard ${id}$)`);
      });
    for (const [number, group] of pool.groups.entries())
      for (const { name, disk } of this.#membersInSync(group))
        for (const object of disk.shelf(POOL_ID).objects.values()) {
          const key = object.object.key.toString();
          if (groupOf(pool, object.object.hash) !== number || !doesExist(object)) continue;
          if (patterns.some((pattern) => pattern.test(key)))
            return `I10: '${key}' is on ${name}, and its image was removed`;
        }
    return null;
  }

  #compare(group: number, a: SimDaemon, b: SimDaemon): string | null {
    const pool = this.#masters().state.map.pools[0];
    if (pool === undefined) return null;
    const [ours, theirs] = [a.disk.shelf(POOL_ID).objects, b.disk.shelf(POOL_ID).objects];
    for (const place of new Set([...ours.keys(), ...theirs.keys()])) {
      const [one, other] = [ours.get(place), theirs.get(place)];
      const object = (one ?? other)?.object;
      if (object === undefined || groupOf(pool, object.hash) !== group) continue;
      const problem = imageDifference(one ?? null, other ?? null);
      if (problem === null) continue;
      return `I11: '${object.key.toString()}' of group ${group} differs between ${a.name} and ${b.name}: ${problem}`;
    }
    return null;
  }

  #isNewest({ object, from, to, tag, calledAt }: OpRecord): boolean {
    return !this.#history.ops.some(
      (op) =>
        op.object === object &&
        op.kind !== 'read' &&
        op.calledAt >= calledAt &&
        op.tag !== tag &&
        op.from < to &&
        from < op.to,
    );
  }

  #copies(object: UsedObject): { name: string; copy: SimObject | null }[] {
    const group = this.groupNow(object.group);
    if (group === undefined) return [];
    return this.#membersInSync(group).map((daemon) => ({
      name: daemon.name,
      copy: daemon.disk.shelf(POOL_ID).objects.get(object.ref.place) ?? null,
    }));
  }

  /** Those whose very start is listed, and runs. */
  #membersInSync({ members }: MapGroup): SimDaemon[] {
    const found: SimDaemon[] = [];
    for (const { inSync } of members) {
      if (inSync === null) continue;
      const daemon = this.#daemons.find(({ process }) => process?.startId === inSync);
      if (daemon !== undefined) found.push(daemon);
    }
    return found;
  }

  #daemonIds(daemon: SimDaemon): Set<number> {
    const { map } = this.#masters().state;
    return new Set(
      map.daemons.filter(({ diskId }) => diskId === daemon.disk.diskId).map(({ id }) => id),
    );
  }
}

function isUndamaged(daemon: SimDaemon): boolean {
  if (daemon.disk.isFailed) return false;
  for (const object of daemon.disk.shelf(POOL_ID).objects.values())
    for (const block of object.now.states.keys())
      if (object.goodBytes(block) === null) return false;
  return true;
}

/** The first block of a copy that does not have what was asked for; null: it has it, or is damaged. */
function differenceOf(
  image: ObjectImage | null,
  { op, offset, bytes, data }: Request,
): number | null {
  for (let at = 0; at < bytes; at += CELL_BYTES) {
    const cell = (offset + at) / CELL_BYTES;
    const there = tagIn(image, cell);
    if (there === null) continue;
    const wanted = op === 'write' ? (data?.readUInt32LE(at) ?? 0) : ZERO_TAG;
    if (there !== wanted) return Math.floor(cell / CELLS_PER_BLOCK);
  }
  return null;
}

/** What a copy has in a cell; null: something damaged. */
function tagIn(image: ObjectImage | null, cell: number): number | null {
  if (image?.exists !== true) return ZERO_TAG;
  const block = Math.floor(cell / CELLS_PER_BLOCK);
  if (image.states[block] !== BLOCK_STATE.data) return ZERO_TAG;
  const bytes = image.blocks[block] ?? ZEROS;
  if (crc32c(bytes) !== image.checks[block]) return null;
  const at = (cell % CELLS_PER_BLOCK) * CELL_BYTES;
  const tag = bytes.readUInt32LE(at);
  return bytes.readUInt32LE(at + CELL_BYTES - 4) === tag && tag !== MISSING_TAG ? tag : null;
}

/** A piece of an image of which nothing is left is none, whatever is remembered of it. */
function doesExist(object: SimObject | null): boolean {
  if (object?.now.exists !== true) return false;
  const isPiece = object.object.kind === OBJECT_KIND.imageData;
  return !isPiece || object.now.states.some((state) => state !== BLOCK_STATE.absent);
}

function imageDifference(a: SimObject | null, b: SimObject | null): string | null {
  const [isHere, isThere] = [doesExist(a), doesExist(b)];
  if (isHere !== isThere) return `it exists on one of them`;
  if (a === null || b === null || !isHere) return null;
  if (a.now.version !== b.now.version) return `versions ${a.now.version} and ${b.now.version}`;
  if (a.now.length !== b.now.length) return `lengths ${a.now.length} and ${b.now.length}`;
  if (a.isInline)
    return a.now.content?.equals(b.now.content ?? ZEROS) === true ? null : 'the content';
  for (const [block, state] of a.now.states.entries()) {
    if (state !== b.now.states[block])
      return `states ${state} and ${b.now.states[block] ?? ''} of block ${block}`;
    const [mine, yours] = [a.goodBytes(block), b.goodBytes(block)];
    if (mine !== null && yours !== null && !mine.equals(yours)) return `block ${block}`;
  }
  return null;
}

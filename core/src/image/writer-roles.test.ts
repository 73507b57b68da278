/** Who takes the writer role of an image, with everything that can happen in between; groups and guards are a model. */
import t, { type Test } from 'tap';
import { randomBytes } from 'node:crypto';
import type { Random } from '../env/env.js';
import type { Chain } from '../pool/chain.js';
import type { Claim, Guard } from '../pool/guard.js';
import type { GuardingPool } from '../pool/guarded-pool.js';
import { MemStore } from '../pool/mem-store.js';
import { OBJECT_KIND, ObjectRef, type ObjectPool, type ObjectStat } from '../pool/object-pool.js';
import { codeOf } from '../pool/pool-user.js';
import { PoolWrapper } from '../pool/pool-wrapper.js';
import { promised, StoreError, type Done } from '../util/errors.js';
import { OBJECT_BYTES } from '../util/limits.js';
import { HeaderStore } from './header-store.js';
import { ImageCatalog } from './image-catalog.js';
import type { Image } from './image.js';
import type { RoleRequest } from './writer-roles.js';

const OBJECT = 64 * 1024;
const GROUPS = 4;
const NOW = 1_800_000_000;
const random: Random = { bytes: (count) => randomBytes(count) };

/** The guards of all groups, as the daemons have them. */
class ModelGuards {
  readonly groups = Array.from({ length: GROUPS }, () => new Map<string, Guard>());

  groupOf({ hash }: ObjectRef): Map<string, Guard> {
    return this.groups[hash.high % GROUPS] ?? new Map<string, Guard>();
  }

  tokens(): number[] {
    return this.groups.map((guards) => [...guards.values()][0]?.token ?? 0);
  }
}

/** The pool as one process has it. */
class ModelPool extends PoolWrapper implements GuardingPool {
  readonly #guards: ModelGuards;
  /** Groups that are raised before the process dies. */
  raisesLeft = Infinity;
  /** Nobody answers where the header is. */
  isCutOff = false;
  /** Waited for before anything is raised. */
  beforeRaise: Promise<void> = Promise.resolve();
  /** Waited for before a range is zeroed. */
  beforeZero: Promise<void> = Promise.resolve();
  zeroed = (): void => undefined;
  raised = (): void => undefined;

  constructor(below: ObjectPool, guards: ModelGuards) {
    super(below);
    this.#guards = guards;
  }

  claimed(_layers: Chain, claim: Claim, fenced: (why: StoreError) => void): ObjectPool {
    return new ClaimedPool(this, this.#guards, { claim, fenced });
  }

  async raiseGuard(guard: Guard): Promise<void> {
    this.raised();
    await this.beforeRaise;
    for (const guards of this.#guards.groups) {
      if (this.raisesLeft === 0) throw new StoreError('E_CLOSED', 'The process died');
      this.raisesLeft -= 1;
      if ((guards.get(guard.image)?.token ?? 0) > guard.token)
        throw new StoreError('E_FENCED', 'Too late');
      guards.set(guard.image, guard);
    }
  }

  removeGuard(image: string, token: number): Promise<void> {
    let isFenced = false;
    for (const guards of this.#guards.groups)
      if ((guards.get(image)?.token ?? 0) > token) isFenced = true;
      else guards.delete(image);
    if (!isFenced) return Promise.resolve();
    return Promise.reject(new StoreError('E_FENCED', 'Somebody else has it'));
  }

  override stat(ref: ObjectRef): Promise<ObjectStat | null> {
    return this.isCutOff
      ? Promise.reject(new StoreError('E_TIMEOUT', 'Nobody answers'))
      : super.stat(ref);
  }
}

interface Role {
  readonly claim: Claim;
  readonly fenced: (why: StoreError) => void;
}

class ClaimedPool extends PoolWrapper {
  readonly #guards: ModelGuards;
  readonly #role: Role;
  readonly #pool: ModelPool;

  constructor(pool: ModelPool, guards: ModelGuards, role: Role) {
    super(pool);
    this.#pool = pool;
    this.#guards = guards;
    this.#role = role;
  }

  override write(
    ref: ObjectRef,
    offset: number,
    parts: readonly Buffer[],
    flags: number,
    done: Done,
  ): void {
    const refusal = this.#refusal(ref);
    if (refusal === null) super.write(ref, offset, parts, flags, done);
    else done(refusal);
  }

  override zero(ref: ObjectRef, offset: number, bytes: number, flags: number, done: Done): void {
    this.#pool.zeroed();
    void this.#pool.beforeZero.then(() => {
      const refusal = this.#refusal(ref);
      if (refusal === null) super.zero(ref, offset, bytes, flags, done);
      else done(refusal);
    });
  }

  #refusal(ref: ObjectRef): StoreError | null {
    const { claim, fenced } = this.#role;
    if (this.#guards.groupOf(ref).get(claim.image)?.token === claim.token) return null;
    const error = new StoreError('E_FENCED', 'Another writer has it');
    fenced(error);
    return error;
  }
}

interface World {
  readonly guards: ModelGuards;
  readonly headers: HeaderStore;
  /** Another process with the pool. */
  readonly process: () => { readonly pool: ModelPool; readonly catalog: ImageCatalog };
}

async function world(objectBytes = OBJECT): Promise<World> {
  const below = await new MemStore({ objectBytes }).openPool('pool', { create: true });
  const guards = new ModelGuards();
  await new ImageCatalog(below, random).create('vm', 64 * OBJECT);
  return {
    guards,
    headers: new HeaderStore(below, random),
    process: () => {
      const pool = new ModelPool(below, guards);
      return { pool, catalog: new ImageCatalog(pool, random) };
    },
  };
}

/** The guards of a group while somebody has the image. */
async function guardsOf(
  process: World['process'],
  guards: ModelGuards,
): Promise<Map<string, Guard>> {
  await open(process(), 'beta', { force: true });
  return new Map(guards.groups[0]);
}

/** Somebody takes the role, and hangs before the first guard is raised. */
async function hangingTaker(
  process: World['process'],
): Promise<{ opening: Promise<string | null>; goOn: () => void }> {
  const slow = process();
  const [raising, going] = [gate(), gate()];
  slow.pool.raised = raising.open;
  slow.pool.beforeRaise = going.opened;
  const opening = codeOf(open(slow, 'alpha'));
  await raising.opened;
  return { opening, goOn: going.open };
}

/** An image that was written to, and whose shrink somebody has begun who is no more. */
async function halfShrunk(t: Test, process: World['process'], size: number): Promise<void> {
  t.same(await writeAll(await open(process(), 'alpha'), 1), times(null));
  const dying = process();
  dying.pool.raisesLeft = 0;
  t.equal(await codeOf(dying.catalog.resize('vm', size, { force: true })), 'E_CLOSED');
}

/** Something that is waited for until somebody opens it. */
function gate(): { readonly opened: Promise<void>; readonly open: () => void } {
  let open = (): void => undefined;
  const opened = new Promise<void>((resolve) => (open = resolve));
  return { opened, open: () => open() };
}

function asked(host: string, more: Partial<RoleRequest> = {}): RoleRequest {
  const owner = { host, name: 'vm' };
  const settings = { force: false, held: 0, wasLost: false, fenced: () => undefined };
  return { owner, now: NOW, ...settings, ...more };
}

function open(
  { catalog }: ReturnType<World['process']>,
  host: string,
  more: Partial<RoleRequest> = {},
): Promise<Image> {
  return catalog.open('vm', { readOnly: false, role: asked(host, more) });
}

/** Writes into every object. @returns The errors, one for each */
async function writeAll(image: Image, byte: number): Promise<(string | null)[]> {
  const codes: (string | null)[] = [];
  for (let index = 0; index < image.bytes / OBJECT; index += 1)
    codes.push(
      await codeOf(
        promised((done) => image.write(index * OBJECT, [Buffer.alloc(4096, byte)], 0, done)),
      ),
    );
  return codes;
}

function times<T>(value: T, count = 64): T[] {
  return Array.from({ length: count }, () => value);
}

t.test('whoever takes the role has it alone, in three steps', async (t) => {
  const { guards, headers, process } = await world();
  const first = process();
  first.pool.raised = () => t.same(guards.tokens(), [0, 0, 0, 0]);
  const image = await open(first, 'alpha');
  t.equal(image.token, 1);
  t.same(guards.tokens(), [1, 1, 1, 1]);
  const owner = { host: 'alpha', name: 'vm' };
  t.same((await headers.load('vm'))?.header.writer, {
    ...{ token: 1, layer: 0, owner, since: NOW, state: 'ready' },
  });
  t.same(await writeAll(image, 1), times(null));

  const second = process();
  await t.rejects(open(second, 'beta'), {
    code: 'E_IN_USE',
    message: /host alpha, which serves it as 'vm', since 2027-01-15 .*UTC.*--force/,
  });
  second.pool.raised = () => void headers.load('vm').then((stored) => seen.push(stored?.header));
  const seen: unknown[] = [];
  const other = await open(second, 'beta', { force: true });
  t.match(seen, [{ writer: { token: 2, state: 'pending', owner: { host: 'beta' } } }]);
  t.same(await writeAll(image, 2), times('E_FENCED'));
  t.same(await writeAll(other, 3), times(null));
  t.equal((await open(process(), 'beta')).token, 3, 'the same owner takes its own at once');
  const reader = await process().catalog.open('vm', { readOnly: true });
  t.equal(reader.token, 0, 'who reads needs none');
});

t.test('who has the role still has it when it opens again', async (t) => {
  const { process } = await world();
  const one = process();
  const image = await open(one, 'alpha');
  one.pool.raised = () => t.fail('nothing is raised');
  t.equal((await open(one, 'alpha', { held: image.token })).token, image.token);
});

t.test('who dies between the raises of two groups is finished by the next one', async (t) => {
  for (let raised = 0; raised <= GROUPS; raised += 1) {
    const { guards, headers, process } = await world();
    const old = await open(process(), 'alpha');
    const dying = process();
    dying.pool.raisesLeft = raised;
    if (raised < GROUPS) t.equal(await codeOf(open(dying, 'beta', { force: true })), 'E_CLOSED');
    else await open(dying, 'beta', { force: true });
    const codes = new Set(await writeAll(old, 1));
    t.equal(codes.has('E_FENCED'), raised > 0, 'where it was raised the old one is out already');
    t.equal(await codeOf(open(process(), 'gamma')), 'E_IN_USE', 'pending or not, it has an owner');
    const next = await open(process(), 'beta');
    t.same(guards.tokens(), times(3, GROUPS));
    t.match((await headers.load('vm'))?.header.writer, { token: 3, state: 'ready' });
    t.same(await writeAll(next, 2), times(null));
    t.same(await writeAll(old, 3), times('E_FENCED'));
  }
});

t.test('of two who take it at once one wins, and the other hears of it', async (t) => {
  const { guards, process } = await world();
  await open(process(), 'alpha');
  const [one, other] = [process(), process()];
  const results = await Promise.allSettled([
    open(one, 'beta', { force: true }),
    open(other, 'gamma', { force: true }),
  ]);
  const won = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
  const lost = results.flatMap((result): unknown[] =>
    result.status === 'rejected' ? [result.reason] : [],
  );
  t.equal(won.length, 1);
  t.match(lost, [{ code: 'E_IN_USE', message: /beta|gamma/ }]);
  t.same(guards.tokens(), times(won[0]?.token, GROUPS));
});

t.test('a taker that hangs before its raises is too late when another has taken it', async (t) => {
  const { guards, process } = await world();
  const slow = process();
  let goOn = (): void => undefined;
  slow.pool.beforeRaise = new Promise((resolve) => (goOn = resolve));
  const hangs = new Promise<void>((resolve) => (slow.pool.raised = resolve));
  const late = codeOf(open(slow, 'alpha'));
  await hangs;
  const image = await open(process(), 'beta', { force: true });
  goOn();
  t.equal(await late, 'E_IN_USE');
  t.same(guards.tokens(), times(image.token, GROUPS));
  t.same(await writeAll(image, 1), times(null));
});

t.test('what was given back anybody may take, and nobody takes back what he lost', async (t) => {
  const { headers, process } = await world();
  const one = process();
  const image = await open(one, 'alpha');
  await one.catalog.release('vm', image.token, NOW + 5);
  t.match((await headers.load('vm'))?.header.writer, { token: 1, owner: null, since: NOW + 5 });
  const other = process();
  const next = await open(other, 'beta');
  await one.catalog.release('vm', image.token, NOW + 6);
  t.match((await headers.load('vm'))?.header.writer, { token: 2, owner: { host: 'beta' } });
  t.equal(await codeOf(open(one, 'beta', { wasLost: true })), 'E_IN_USE');
  t.equal(await codeOf(open(one, 'alpha', { wasLost: true, force: true })), 'E_IN_USE');
  await other.catalog.release('vm', next.token, NOW + 7);
  t.equal((await open(one, 'alpha', { wasLost: true })).token, 3);
  // A group has lost its guard, and the writer that is still the one was refused there.
  t.equal((await open(one, 'alpha', { wasLost: true, held: 3 })).token, 4);
});

t.test('a smaller image is taken from its writer, a larger one is not', async (t) => {
  const { process } = await world();
  const image = await open(process(), 'alpha');
  t.same(await writeAll(image, 1), times(null));
  const tool = process();
  await tool.catalog.resize('vm', 70 * OBJECT);
  t.same(await writeAll(image, 2), times(null), 'who writes goes on');
  const refused = { code: 'E_IN_USE', message: /host alpha.*--force$/ };
  await t.rejects(tool.catalog.resize('vm', 10 * OBJECT + 512), refused);
  await t.rejects(tool.catalog.remove('vm'), refused);
  t.same(await writeAll(image, 3), times(null), 'nothing has happened to it');
  await tool.catalog.resize('vm', 10 * OBJECT + 512, { force: true });
  t.match(await tool.catalog.info('vm'), { state: 'ready', writer: { token: 2, owner: null } });
  t.same(await writeAll(image, 4), times('E_FENCED'), 'also not behind the new end');
  t.equal((await open(process(), 'alpha')).bytes, 10 * OBJECT + 512);

  let goOn = (): void => undefined;
  tool.pool.beforeZero = new Promise((resolve) => (goOn = resolve));
  const hangs = new Promise<void>((resolve) => (tool.pool.zeroed = resolve));
  const late = tool.catalog.resize('vm', 4 * OBJECT + 512, { force: true });
  await hangs;
  const next = await open(process(), 'alpha');
  t.equal(next.bytes, 4 * OBJECT + 512);
  await process().catalog.resize('vm', 64 * OBJECT);
  const grown = await open(process(), 'alpha');
  t.same(await writeAll(grown, 0x77), times(null));
  await promised((done) => grown.write(4 * OBJECT, [Buffer.alloc(4096, 0x78)], 0, done));
  goOn();
  await late;
  const seen = Buffer.alloc(4096);
  await promised((done) => grown.read(4 * OBJECT, seen, done));
  t.ok(seen.equals(Buffer.alloc(4096, 0x78)), 'what was zeroed too late was not zeroed');
});

t.test('nobody finishes a shrink with the claim of another one, or gets his role', async (t) => {
  const { headers, process } = await world();
  await halfShrunk(t, process, 4 * OBJECT + 512);
  const slow = process();
  const gates = [gate(), gate()];
  let zeroes = 0;
  const first = gate();
  slow.pool.zeroed = () => {
    slow.pool.beforeZero = gates[zeroes]?.opened ?? Promise.resolve();
    zeroes += 1;
    first.open();
  };
  const opening = codeOf(open(slow, 'alpha'));
  await first.opened;
  const taker = process();
  const taking = gate();
  taker.pool.beforeZero = taking.opened;
  const begun = gate();
  taker.pool.zeroed = begun.open;
  const taken = open(taker, 'beta', { force: true });
  await begun.opened;
  // It is refused, and finds the shrink of somebody else.
  gates[0]?.open();
  for (let turns = 0; turns < 50; turns += 1) await new Promise(setImmediate);
  taking.open();
  const { token } = await taken;
  await process().catalog.resize('vm', 64 * OBJECT);
  const grown = await open(taker, 'beta', { held: token });
  t.equal(grown.token, token);
  await promised((done) => grown.write(4 * OBJECT + 4096, [Buffer.alloc(4096, 0x79)], 0, done));
  gates[1]?.open();
  t.equal(await opening, 'E_IN_USE');
  t.match((await headers.load('vm'))?.header.writer, { token, owner: { host: 'beta' } });
  const seen = Buffer.alloc(4096);
  await promised((done) => grown.read(4 * OBJECT + 4096, seen, done));
  t.ok(seen.equals(Buffer.alloc(4096, 0x79)), 'what was written since is there');
});

t.test('a shrink that somebody has begun to finish is taken from nobody by itself', async (t) => {
  const { process } = await world();
  await halfShrunk(t, process, OBJECT + 512);
  const slow = process();
  const hanging = gate();
  const begun = gate();
  slow.pool.beforeZero = hanging.opened;
  slow.pool.zeroed = begun.open;
  const opening = open(slow, 'alpha');
  await begun.opened;
  t.equal(await codeOf(process().catalog.resize('vm', 8 * OBJECT)), 'E_IN_USE');
  const tool = process().catalog;
  t.match(await tool.resize('vm', 8 * OBJECT, { force: true }), { size: 8 * OBJECT });
  hanging.open();
  t.equal(await codeOf(opening), 'E_IN_USE');
});

t.test('an image is removed though some group has a guard that is higher', async (t) => {
  const { guards, headers, process } = await world();
  await open(process(), 'alpha');
  const last = guards.groups.at(-1);
  const [guard] = last?.values() ?? [];
  if (guard !== undefined) last?.set(guard.image, { ...guard, token: 9 });
  await process().catalog.remove('vm', { force: true });
  t.equal(await headers.load('vm'), null);
  t.same(guards.tokens(), [0, 0, 0, 0]);
});

t.test('who removes an image has it alone, and leaves nothing', async (t) => {
  const { guards, headers, process } = await world();
  const image = await open(process(), 'alpha');
  t.same(await writeAll(image, 1), times(null));
  const dying = process();
  dying.pool.raisesLeft = 2;
  t.equal(await codeOf(dying.catalog.remove('vm', { force: true })), 'E_CLOSED');
  t.equal(await codeOf(open(process(), 'alpha')), 'E_NOT_FOUND');
  await process().catalog.remove('vm');
  t.equal(await headers.load('vm'), null);
  t.same(guards.tokens(), [0, 0, 0, 0]);
  t.same(await writeAll(image, 2), times('E_FENCED'));
  const { entries } = await process().pool.list({ kind: OBJECT_KIND.imageData });
  t.same(entries, []);
});

t.test('what is raised after the image was removed is withdrawn', async (t) => {
  for (const isMadeAnew of [false, true]) {
    const { guards, process } = await world();
    const { opening, goOn } = await hangingTaker(process);
    await process().catalog.remove('vm', { force: true });
    if (isMadeAnew) await process().catalog.create('vm', OBJECT);
    goOn();
    t.equal(await opening, 'E_NOT_FOUND');
    t.same(guards.tokens(), [0, 0, 0, 0]);
  }
});

t.test('so is what was raised in some groups and refused in others', async (t) => {
  const { guards, process } = await world();
  const { opening, goOn } = await hangingTaker(process);
  const [image = ''] = [...(await guardsOf(process, guards)).keys()];
  await process().catalog.remove('vm', { force: true });
  // The last group has not heard yet that its guard is not needed any more.
  guards.groups.at(-1)?.set(image, { image, token: 9, layer: 0, layerId: 'x' });
  goOn();
  t.equal(await opening, 'E_NOT_FOUND');
  t.same(guards.tokens(), [0, 0, 0, 9]);
});

t.test('where nobody says what became of the image its guards stay', async (t) => {
  const { guards, process } = await world();
  const alone = process();
  alone.pool.raised = () => (alone.pool.isCutOff = true);
  t.equal(await codeOf(open(alone, 'alpha')), 'E_TIMEOUT');
  t.same(guards.tokens(), [1, 1, 1, 1]);
  t.equal((await open(process(), 'alpha')).token, 2);
});

t.test('an image of the ancestor has no room for a writer', async (t) => {
  const { guards, process } = await world(OBJECT_BYTES);
  const one = process();
  const header = Buffer.alloc(8);
  header.writeUInt32BE(OBJECT_BYTES, 4);
  const ref = new ObjectRef(OBJECT_KIND.plain, 'old');
  await promised((done) => one.pool.write(ref, 0, [header], 0, done));
  const image = await one.catalog.open('old', { readOnly: false, role: asked('alpha') });
  t.equal(image.token, 0);
  t.same(guards.tokens(), [0, 0, 0, 0]);
  await promised((done) => image.write(0, [Buffer.alloc(512, 1)], 0, done));
});

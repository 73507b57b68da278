// What libnbd's tools and its Python shell do beyond reading and writing: maps, capabilities, sparse copies,
// negotiation step by step, many requests at a time.
import { randomBytes } from 'node:crypto';
import { readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import { run, runAnyway } from '../host/command.js';
import { needs } from '../host/requirements.js';
import { tempFolder } from '../host/temp-folder.js';
import { StoreServer } from '../server/store-server.js';

t.setTimeout(600_000);

const MIB = 1024 ** 2;
const IMAGE_BYTES = 32 * MIB;

function serve(t: Test, folder: string, name = 'a'): Promise<StoreServer> {
  return StoreServer.start(t, {
    dir: join(folder, `data-${name}`),
    image: 'vm1',
    createBytes: IMAGE_BYTES,
    socket: join(folder, `${name}.sock`),
  });
}

/** A sparse file: 64 KiB of noise at 1 MiB and at 20 MiB + 4 KiB. */
function makeSparseFile(path: string): Buffer {
  const content = Buffer.alloc(IMAGE_BYTES);
  for (const at of [MIB, 20 * MIB + 4096]) randomBytes(65_536).copy(content, at);
  writeFileSync(path, '');
  truncateSync(path, IMAGE_BYTES);
  writeFileSync(path, content, { flag: 'r+' });
  return content;
}

/** An entry of `nbdinfo --map --json`. */
interface MapEntry {
  readonly offset: number;
  readonly length: number;
  readonly type: number;
}

async function mapOf(uri: string): Promise<MapEntry[]> {
  return JSON.parse(await run('nbdinfo', ['--map', '--json', uri])) as MapEntry[]; // what it documents
}

const LIBNBD = needs({ commands: ['nbdinfo', 'nbdcopy'] });

t.test('nbdinfo maps exactly the blocks that were written', LIBNBD, async (t) => {
  const folder = tempFolder(t);
  const server = await serve(t, folder);
  t.match(await mapOf(server.uri), [{ offset: 0, length: IMAGE_BYTES, type: 3 }]);
  const file = join(folder, 'sparse.raw');
  makeSparseFile(file);
  await run('nbdcopy', ['--destination-is-zero', '--sparse=4096', file, server.uri]);
  const data = (await mapOf(server.uri)).filter(({ type }) => type === 0);
  t.strictSame(
    data.map(({ offset, length }) => [offset, length]),
    [
      [MIB, 65_536],
      [20 * MIB + 4096, 65_536],
    ],
  );
  t.match(await run('nbdinfo', ['--map', '--totals', server.uri]), /131072 +0\.4% +0 +data/);
  const depth = await run('nbdinfo', ['--map=x-store:depth', server.uri]);
  t.match(depth, /1048576 +65536 +1/, 'and the context of our own');
  await server.stop();
});

t.test('nbdinfo finds every capability', LIBNBD, async (t) => {
  const server = await serve(t, tempFolder(t));
  for (const can of [
    ...['connect', 'read', 'write', 'flush', 'fua', 'trim', 'zero', 'fast-zero', 'cache'],
    ...['df', 'multi-conn', 'structured-reply'],
  ]) {
    const { code, stderr } = await runAnyway('nbdinfo', ['--can', can, server.uri]);
    t.equal(code, 0, `${can} ${stderr}`);
  }
  for (const not of ['read-only', 'rotational', 'tls'])
    t.equal((await runAnyway('nbdinfo', ['--is', not, server.uri])).code, 2, not);
  await server.stop();
});

t.test('nbdcopy keeps holes, into a file and into another server', LIBNBD, async (t) => {
  const folder = tempFolder(t);
  const [source, target] = [await serve(t, folder), await serve(t, folder, 'b')];
  const file = join(folder, 'sparse.raw');
  const content = makeSparseFile(file);
  await run('nbdcopy', ['--connections=4', file, source.uri]);
  const copy = join(folder, 'copy.raw');
  await run('nbdcopy', ['--connections=4', source.uri, copy]);
  t.ok(readFileSync(copy).equals(content));
  t.ok(statSync(copy).blocks * 512 < 2 * MIB, 'the file takes little space');
  await run('nbdcopy', ['--connections=4', '--flush', source.uri, target.uri]);
  const bytes = (await mapOf(target.uri)).reduce(
    (sum, { type, length }) => (type === 0 ? sum + length : sum),
    0,
  );
  t.equal(bytes, 131_072, 'nor does the other image');
  await run('nbdcopy', [target.uri, copy]);
  t.ok(readFileSync(copy).equals(content));
  await source.stop();
  await target.stop();
});

/** Runs Python with a libnbd handle `h`, not connected yet, and the URI `uri`. An exception fails it. */
async function nbdsh(uri: string, script: string): Promise<void> {
  const code = `import errno, nbd, sys\nuri = sys.argv[1]\nh = nbd.NBD()\n${script}`;
  await run('/usr/bin/python3', ['-c', code, uri]);
}

/** Debian's Python has the bindings; it is there when the package is. */
const NBDSH = needs({ commands: ['nbdsh'] });

t.test('nbdsh: 200 requests are in flight and all come back right', NBDSH, async (t) => {
  const server = await serve(t, tempFolder(t));
  await nbdsh(
    server.uri,
    `
h.connect_uri(uri)
writes = [h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray([i % 251]) * 5000), i * 10000)
          for i in range(200)]
while writes:
    assert h.poll(10000) == 1
    writes = [cookie for cookie in writes if not h.aio_command_completed(cookie)]
buffers = [nbd.Buffer(5000) for i in range(200)]
reads = [h.aio_pread(buffers[i], i * 10000) for i in reversed(range(200))]
while reads:
    assert h.poll(10000) == 1
    reads = [cookie for cookie in reads if not h.aio_command_completed(cookie)]
for i, buffer in enumerate(buffers):
    assert buffer.to_bytearray() == bytearray([i % 251]) * 5000, i
h.shutdown()
`,
  );
  t.pass('it said nothing');
  await server.stop();
});

t.test('nbdsh: a read tells holes from data, and DF makes one piece of it', NBDSH, async (t) => {
  const server = await serve(t, tempFolder(t));
  await nbdsh(
    server.uri,
    `
h.connect_uri(uri)
h.pwrite(b'x' * 8192, 65536)
def pieces(flags):
    found = []
    def chunk(data, offset, status, error):
        found.append((offset, len(data), status))
    content = h.pread_structured(131072, 0, chunk, flags)
    assert content == bytes(65536) + b'x' * 8192 + bytes(57344)
    return sorted(found)
sparse = pieces(0)
assert sum(length for _, length, _ in sparse) == 131072, sparse
assert [piece for piece in sparse if piece[2] == nbd.READ_DATA] == [(65536, 8192, nbd.READ_DATA)]
assert pieces(nbd.CMD_FLAG_DF) == [(0, 131072, nbd.READ_DATA)]
h.shutdown()
`,
  );
  t.pass('it said nothing');
  await server.stop();
});

t.test('nbdsh: negotiation goes step by step, and mistakes do not end it', NBDSH, async (t) => {
  const server = await serve(t, tempFolder(t));
  await nbdsh(
    server.uri,
    `
h.set_opt_mode(True)
h.set_full_info(True)
h.connect_uri(uri)
names = []
assert h.opt_list(lambda name, description: names.append(name)) == 1 and names == ['vm1']
h.set_export_name('nix')
try:
    h.opt_info()
    assert False, 'there is no such export'
except nbd.Error as error:
    assert error.errno == 'ENOENT', error
h.set_export_name('vm1')
found = []
h.add_meta_context('base:')
h.opt_list_meta_context(lambda name: found.append(name))
assert found == ['base:allocation'], found
h.clear_meta_contexts()
h.add_meta_context('base:allocation')
h.add_meta_context('x-unknown:thing')
h.opt_info()
assert h.get_size() == 32 * 1024 * 1024
assert 'image of' in h.get_export_description()
h.opt_go()
assert h.can_meta_context('base:allocation') and not h.can_meta_context('x-unknown:thing')
assert h.get_block_size(nbd.SIZE_MINIMUM) == 1
assert h.get_block_size(nbd.SIZE_MAXIMUM) == 32 * 1024 * 1024
h.shutdown()
`,
  );
  t.pass('it said nothing');
  await server.stop();
});

t.test('nbdsh: zeroing is fast where it can be, and says so where not', NBDSH, async (t) => {
  const server = await serve(t, tempFolder(t));
  await nbdsh(
    server.uri,
    `
h.add_meta_context('base:allocation')
h.connect_uri(uri)
def status(count, offset):
    found = []
    h.block_status(count, offset, lambda context, at, entries, error: found.extend(entries))
    return found
h.pwrite(b'x' * 65536, 0)
h.zero(65536, 0, nbd.CMD_FLAG_FAST_ZERO)
assert status(65536, 0)[1] == nbd.STATE_HOLE | nbd.STATE_ZERO
h.zero(65536, 0, nbd.CMD_FLAG_NO_HOLE)
assert status(65536, 0)[1] & nbd.STATE_HOLE == 0, 'space is taken'
assert h.pread(65536, 0) == bytes(65536)
h.pwrite(b'y' * 4096, 0)
try:
    h.zero(100, 50, nbd.CMD_FLAG_FAST_ZERO)
    assert False, 'a part of a block is not fast'
except nbd.Error as error:
    assert error.errno == 'ENOTSUP', error
assert h.pread(4096, 0) == b'y' * 4096, 'and nothing changed'
h.shutdown()
`,
  );
  t.pass('it said nothing');
  await server.stop();
});

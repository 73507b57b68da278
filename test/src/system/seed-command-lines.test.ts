// The command lines of the ancestor's README, as they stand there: a daemon, objects, and an image of the ancestor's kind.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { run } from '../host/command.js';
import { needs } from '../host/requirements.js';
import { tempFolder } from '../host/temp-folder.js';
import { programPath, runProgramWell } from '../server/store-programs.js';

t.setTimeout(330_000);

/** The folder of the ancestor's README lies elsewhere here, and `target/release` is where our programs are. */
const SCRIPT = String.raw`
set -eu
ip link set lo up
trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT

target/release/store file-store \
    --peer-address 0.0.0.0:4149 \
    --peer-cert tls/storage001.crt --peer-key tls/storage001.key --peer-ca-cert tls/ca.crt \
    --listen-address 0.0.0.0:4148 \
    --dir "$STORAGE" >daemon.out 2>daemon.log &

serves() { for _ in $(seq 300); do if grep -q : "$1" 2>/dev/null; then return; fi; sleep 0.1; done; cat daemon.log nbd.log >&2; return 1; }
serves daemon.out

target/release/store -v write --storage-daemon 127.0.0.1:4148 --pool testpool testobj --data-literal "hello world"
target/release/store -v write --storage-daemon 127.0.0.1:4148 --pool testpool passwd --data-file /etc/passwd
target/release/store -v read --storage-daemon 127.0.0.1:4148 --pool testpool passwd --offset 20 --length 40 >part
target/release/store -v read --storage-daemon 127.0.0.1:4148 --pool testpool passwd >passwd
target/release/store -v read --storage-daemon 127.0.0.1:4148 --pool testpool testobj >testobj

printf '\x00\x00\x00\x00\x06\x40\x00\x00' |
  target/release/store write --storage-daemon 127.0.0.1:4148 --pool testpool testblock --data-file -
target/release/store-nbd --storage-daemon 127.0.0.1:4148 --pool testpool --image testblock --socket "$PWD/nbd.sock" >nbd.out 2>nbd.log &
serves nbd.out
URI="nbd+unix:///?socket=$PWD/nbd.sock"
nbdinfo --size "$URI" >size
nbdinfo "$URI" >info
nbdcopy --flush in.raw "$URI"
nbdcopy "$URI" out.raw
`;

t.test(
  'the command lines of the ancestor do what they did',
  needs({ root: true, commands: ['nbdinfo', 'nbdcopy', 'unshare', 'ip'] }),
  async (t) => {
    const folder = tempFolder(t);
    const tls = join(folder, 'tls');
    await runProgramWell('store', ['cert', 'init', '--out', tls]);
    await runProgramWell('store', ['cert', 'issue', 'storage001', '--out', tls]);
    await run('mkdir', ['-p', join(folder, 'target')]);
    await run('ln', ['-s', join(programPath('store'), '..'), join(folder, 'target', 'release')]);
    const content = Buffer.alloc(100 * 1024 ** 2);
    content.fill('the ancestor ', 5_000_000, 9_000_000);
    content.fill('ends here', content.length - 5000);
    writeFileSync(join(folder, 'in.raw'), content);
    const read = (name: string): Buffer => readFileSync(join(folder, name));
    try {
      // In a network of its own the ancestor's ports are nobody else's.
      await run('unshare', ['--net', 'bash', '-c', SCRIPT], {
        cwd: folder,
        env: { STORAGE: join(folder, 'storage') },
        limitMs: 90_000,
      });
    } catch (error) {
      t.comment(`the daemon said: ${readIfThere(join(folder, 'daemon.log'))}`);
      throw error;
    }
    const passwd = readFileSync('/etc/passwd');
    t.equal(read('testobj').toString(), 'hello world');
    t.ok(read('passwd').equals(passwd), 'the whole file');
    t.ok(read('part').equals(passwd.subarray(20, 60)), '40 bytes from byte 20 on');
    t.equal(read('size').toString().trim(), `${100 * 1024 ** 2}`, 'the image is 100 MiB');
    t.match(read('info').toString(), /100M/);
    t.ok(read('out.raw').equals(content), 'the image holds what was copied into it');
  },
);

function readIfThere(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    return String(error);
  }
}

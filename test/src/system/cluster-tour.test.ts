// A cluster with certificates, from nothing to files on its disks, in the very lines of the README.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { run } from '../host/command.js';
import { shellLines } from '../host/document-lines.js';
import { needs } from '../host/requirements.js';
import { tempFolder } from '../host/temp-folder.js';
import { programPath, runProgramWell } from '../server/store-programs.js';

t.setTimeout(600_000);

const LINES_MAX = 20;
const LIMIT_MS = 80_000;

/** Beside the lines: what they leave must be gone, and the dashboard looked at while it is there. */
const BEFORE = String.raw`
set -eu
ip link set lo up
device=
begin=$(date +%s%N)
trap '{ umount -l mnt; losetup -d "$device"; fusermount3 -uz fuse; } 2>/dev/null || true' EXIT
{
`;
const AFTER = String.raw`
} 2>log
echo "$(( ($(date +%s%N) - begin) / 1000000 ))" >ms
exec 3<>/dev/tcp/127.0.0.1/4080
printf 'GET / HTTP/1.0\r\nHost: 127.0.0.1:4080\r\n\r\n' >&3
head -1 <&3 >dashboard
kill $(jobs -p)
wait $(jobs -p) || true
`;

t.test(
  'the lines of the README make a cluster and put a filesystem on it',
  needs({
    root: true,
    fuse: true,
    commands: ['nbdinfo', 'nbdfuse', 'losetup', 'mkfs.ext4', 'fusermount3', 'unshare', 'ip'],
  }),
  async (t) => {
    const lines = shellLines('README.md', '## A cluster');
    t.ok(lines.split('\n').length < LINES_MAX, `fewer than ${LINES_MAX} lines`);
    const folder = tempFolder(t);
    const read = (name: string): string => {
      const path = join(folder, name);
      return existsSync(path) ? readFileSync(path, 'utf8') : '';
    };
    const path = `${join(programPath('store'), '..')}:${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`;
    // In a network of its own the ports are nobody else's; no process and no mount outlives the script.
    const own = ['--net', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc'];
    let said = '';
    try {
      said = await run('unshare', [...own, 'bash', '-c', `${BEFORE}${lines}${AFTER}`], {
        cwd: folder,
        env: { PATH: path, STORE_LOG_FORMAT: 'text' },
        limitMs: LIMIT_MS,
      });
    } catch (error) {
      t.comment(read('log'));
      throw error;
    }
    t.comment(`from nothing to verified files and 'store status': ${read('ms').trim()} ms`);
    t.match(said, /^daemons +4 up, 4 in, of 4$/m);
    t.match(said, /^pools +1 with \d+ groups/m);
    t.match(said, /mnt\n/, 'the filesystem was there');
    t.match(read('dashboard'), /^HTTP\/1\.[01] 200/);
    const objects: number[] = [];
    for (const disk of ['disk1', 'disk2', 'disk3', 'disk4']) {
      const text = await runProgramWell('store', ['check', '--json', '--dir', join(folder, disk)]);
      objects.push((JSON.parse(text) as { objects: number }).objects);
    }
    t.comment(`objects on the disks: ${objects.join(', ')}`);
    t.ok(objects.filter((count) => count > 0).length > 1, 'they are spread over the disks');
  },
);

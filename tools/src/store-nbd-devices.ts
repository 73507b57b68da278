/** The commands `store-nbd attach`, `detach` and `ps`: exports as block devices of this machine. */
import { Command } from 'commander';
import { attach, printLines } from './attach/attach-command.js';
import { startInBackground } from './attach/background.js';
import { detach } from './attach/detach-command.js';
import { ps } from './attach/ps-command.js';
import { handles, runProgram } from './program.js';

function newCommand(name: string, description: string): Command {
  return new Command(name)
    .description(description)
    .helpOption('-h, --help', 'say how it is used')
    .option('--log-format <format>', 'log as text or json (default: text on a terminal)')
    .option('-v, --verbose', 'log what is going on in detail');
}

const program = new Command('store-nbd')
  .description('Exports as block devices of this machine, over any NBD server')
  .helpOption('-h, --help', 'say how it is used')
  .addHelpText('after', '\nWithout one of these commands it serves images; see store-nbd --help');

const attachCommand = newCommand(
  'attach',
  'Make an export a block device, and redial when its links die',
)
  .argument('<uri>', 'nbd://HOST:PORT/NAME or nbd+unix:///NAME?socket=PATH')
  .argument('[device]', 'for example /dev/nbd0 (default: the next free one)')
  .option('--connections <number>', 'connections to the server, 1 to 16 (default: 1)')
  .option('--dead-timeout <time>', 'how long requests wait for a new link (default: 60s)')
  .option(
    '--timeout <time>',
    'when an unanswered request ends its link (default: never, with several connections 30s)',
  )
  .option('--block-size <bytes>', 'the sector size of the device (default: 512)')
  .option('--read-only', 'a device that cannot be written')
  .option('--foreground', 'stay in this terminal (the default)')
  .option('--detach', 'stay in the background; see it with store-nbd ps')
  .option('--print', 'attach nothing; print the lines for nbd-client, libvirt and QEMU')
  .option('--json', 'print JSON')
  .addHelpText(
    'after',
    `
It stays and redials; Ctrl-C or SIGTERM detaches the device as soon as nobody uses it. A supervisor that died is
followed by running the same command again. For a service see store-nbd-attach@.service.

Example:
  modprobe nbd
  store-nbd attach --detach nbd://127.0.0.1/vm1 /dev/nbd0 && mount /dev/nbd0 /mnt
  umount /mnt && store-nbd detach /dev/nbd0`,
  );
handles(attachCommand, async (context, positional) => {
  if (isOn(attachCommand, 'print')) printLines(context, positional);
  else if (isOn(attachCommand, 'detach') && !isOn(attachCommand, 'foreground')) {
    const args = process.argv.slice(2).filter((word) => word !== '--detach');
    context.print(await startInBackground(args));
  } else await attach(context, positional);
});

const detachCommand = newCommand('detach', 'End a device and its supervisor')
  .argument('<device>', 'for example /dev/nbd0')
  .option('--force', 'also if somebody uses it, who gets I/O errors');
handles(detachCommand, (context, positional) =>
  detach(context, positional, isOn(detachCommand, 'force')),
);

const psCommand = newCommand('ps', 'List the NBD devices of this machine').option(
  '--json',
  'print JSON',
);
handles(psCommand, (context) => ps(context));

for (const command of [attachCommand, detachCommand, psCommand]) program.addCommand(command);
await runProgram(program);

function isOn(command: Command, name: string): boolean {
  return command.opts()[name] === true;
}

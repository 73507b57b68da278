// The old process, the new one or both are told to stop or killed at each step of a planned restart. Whoever is left
// serves, or nobody does and the clients are disconnected: nobody hangs, nothing answered is lost, and the next
// `--replace` works.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { run } from '../host/command.js';
import { needs } from '../host/requirements.js';
import { sleep, waitUntil } from '../host/wait-until.js';
import { NbdClient } from '../nbd-client/nbd-client.js';
import { NBD_ESHUTDOWN } from '../nbd-client/nbd-constants.js';
import { RawConnection } from '../nbd-client/raw-connection.js';
import { isAlive } from '../server/replaceable-server.js';
import { startWrittenServer, type WrittenServer } from '../server/written-server.js';
import { recoverDevice } from '../tagged-writer/tagged-writer.js';

t.setTimeout(600_000);

const BLOCKS = 2048;
const LIMIT_MS = 30_000;
/** Who sends, and sends nothing for so long, has sent everything. */
const SILENCE_MS = 500;

/** Two processes in the middle of a hand-over. Those that are stopped (SIGSTOP) go on after the signal. */
interface Middle {
  readonly oldPid: number;
  readonly newPid: number;
  readonly stopped: readonly number[];
}

/** What the two have been sent over the control socket and have not read. */
async function unread({ dir }: WrittenServer): Promise<{ oldBytes: number; newBytes: number }> {
  const sockets = (await run('ss', ['-xH'])).split('\n').map((line) => line.trim().split(/ +/));
  const path = join(dir, 'store-nbd.ctl');
  // Kind, state, bytes to read and to send, path, number, then path and number of the other end.
  const ofOld = sockets.find(([, state, , , place]) => state === 'ESTAB' && place === path);
  const ofNew = sockets.find((one) => one[5] !== undefined && one[5] === ofOld?.[7]);
  return { oldBytes: Number(ofOld?.[2] ?? 0), newBytes: Number(ofNew?.[2] ?? 0) };
}

/** The old process has been called, and waits (a second at most) for a client that negotiates. */
async function called({ server, socket }: WrittenServer): Promise<Middle> {
  const oldPid = server.pid;
  await RawConnection.open({ socket });
  await sleep(50); // until it is accepted
  const newPid = server.spawn(['--replace']);
  await waitUntil('the call', LIMIT_MS, () => server.log.includes('Handing over to a new process'));
  return { oldPid, newPid, stopped: [] };
}

/** The old process has closed its store and sent everything; the new one has read nothing of it. */
async function sent(scene: WrittenServer): Promise<Middle> {
  const { oldPid, newPid } = await called(scene);
  process.kill(newPid, 'SIGSTOP');
  let sentBytes = 0;
  await waitUntil('the old process to have sent everything', LIMIT_MS, async () => {
    const beforeBytes = sentBytes;
    await sleep(SILENCE_MS);
    sentBytes = (await unread(scene)).newBytes;
    return scene.server.pid === 0 && sentBytes > 0 && sentBytes === beforeBytes;
  });
  return { oldPid, newPid, stopped: [newPid] };
}

/** The new process has the folder, and is ready; the old one has not read that. */
async function opened(scene: WrittenServer): Promise<Middle> {
  const { oldPid, newPid } = await sent(scene);
  process.kill(oldPid, 'SIGSTOP');
  process.kill(newPid, 'SIGCONT');
  await waitUntil('ready', LIMIT_MS, async () => (await unread(scene)).oldBytes > 0);
  if (scene.server.pid !== newPid) throw new Error(`process ${scene.server.pid} has the folder`);
  return { oldPid, newPid, stopped: [oldPid] };
}

/** The old process has said `go`; the new one has not read that. */
async function gone(scene: WrittenServer): Promise<Middle> {
  const { oldPid, newPid } = await opened(scene);
  process.kill(newPid, 'SIGSTOP');
  process.kill(oldPid, 'SIGCONT');
  await waitUntil('go', LIMIT_MS, async () => (await unread(scene)).newBytes > 0);
  return { oldPid, newPid, stopped: [newPid] };
}

/** The new process has just taken over. */
async function serving(scene: WrittenServer): Promise<Middle> {
  const middle = await called(scene);
  await waitUntil('the new process to serve', LIMIT_MS, () =>
    scene.server.log.includes('Took over from the running server'),
  );
  return middle;
}

type Who = 'old' | 'new' | 'both';
type Left = 'old' | 'new' | 'nobody';
type Signal = 'SIGTERM' | 'SIGINT' | 'SIGKILL';

interface Case {
  readonly step: string;
  readonly reach: (scene: WrittenServer) => Promise<Middle>;
  readonly who: Who;
  readonly signal: Signal;
  /** Who serves in the end. */
  readonly left: Left | 'new or nobody';
  /** Whether the client keeps its connection; if the new one may serve or not, it does if that serves. */
  readonly keeps: boolean;
}

const ASKED = ['SIGTERM', 'SIGINT'] as const;

function cases(): Case[] {
  const beforeOffer = { step: 'before the old one offers anything', reach: called };
  const afterSockets = { step: 'after the sockets were sent', reach: sent };
  const afterOpen = { step: 'after the new one opened the pool', reach: opened };
  const afterGo = { step: 'after go', reach: gone };
  const afterAll = { step: 'right after the new one took over', reach: serving };
  const killed = { who: 'old', signal: 'SIGKILL', left: 'new' } as const;
  return [
    ...ASKED.flatMap((signal): Case[] => [
      { ...beforeOffer, who: 'old', signal, left: 'nobody', keeps: false },
      { ...afterSockets, who: 'old', signal, left: 'nobody', keeps: false },
      // `ready` and the signal are there at once.
      { ...afterOpen, who: 'old', signal, left: 'new or nobody', keeps: true },
      { ...afterGo, who: 'old', signal, left: 'new', keeps: true },
      { ...afterAll, who: 'new', signal, left: 'nobody', keeps: false },
    ]),
    { ...beforeOffer, ...killed, keeps: false },
    { ...afterSockets, ...killed, keeps: true },
    { ...afterOpen, ...killed, keeps: true },
    { ...afterGo, ...killed, keeps: true },
    { ...beforeOffer, who: 'new', signal: 'SIGTERM', left: 'old', keeps: true },
    { ...afterSockets, who: 'new', signal: 'SIGTERM', left: 'old', keeps: true },
    { ...afterGo, who: 'new', signal: 'SIGTERM', left: 'nobody', keeps: false },
    { ...afterGo, who: 'new', signal: 'SIGKILL', left: 'nobody', keeps: false },
    { ...afterAll, who: 'new', signal: 'SIGKILL', left: 'nobody', keeps: false },
    // As `systemctl stop` does.
    ...[beforeOffer, afterSockets, afterOpen, afterGo, afterAll].map((step): Case => ({
      ...step,
      who: 'both',
      signal: 'SIGTERM',
      left: 'nobody',
      keeps: false,
    })),
  ];
}

/** Ends when nobody is left who should not be, and who is left serves. */
async function settle(scene: WrittenServer, { oldPid, newPid }: Middle, left: Left): Promise<void> {
  const { server } = scene;
  const wanted = { old: oldPid, new: newPid, nobody: 0 }[left];
  const living = (): number[] => [oldPid, newPid].filter(isAlive);
  try {
    await waitUntil(`${left} to be left alone`, LIMIT_MS, () =>
      living().every((pid) => pid === wanted),
    );
    if (wanted === 0) return;
    await waitUntil(
      `the ${left} one to serve`,
      LIMIT_MS,
      () =>
        server.pid === wanted &&
        (left === 'new' || server.log.includes('The new process did not take over, serving on')),
    );
  } catch (error) {
    throw new Error(`${String(error)}; old ${oldPid}, new ${newPid}, alive ${living().join()}`, {
      cause: error,
    });
  }
}

/** Which of the two outcomes came about. */
async function outcomeOf({ server }: WrittenServer, { oldPid, newPid }: Middle): Promise<Left> {
  const isOver = (): boolean =>
    !isAlive(oldPid) && (!isAlive(newPid) || server.log.includes('Took over from the running'));
  await waitUntil('the old process to end', LIMIT_MS, isOver);
  return isAlive(newPid) ? 'new' : 'nobody';
}

/** The client's connection ends, or its requests are answered. */
async function clientKnows({ writer, client }: WrittenServer): Promise<boolean> {
  const before = writer.answers;
  await waitUntil(
    'the client to be answered or disconnected',
    LIMIT_MS,
    () => client.ended !== null || writer.answers > before + 50,
  );
  return client.ended === null;
}

for (const { step, reach, who, signal, left: expected, keeps: mayKeep } of cases()) {
  const outcome = `${expected === 'nobody' ? expected : `the ${expected}`} serves`;
  const whom = who === 'both' ? 'both processes' : `the ${who} process`;
  t.test(`${signal} to ${whom} ${step}: ${outcome}`, needs({ commands: ['ss'] }), async (t) => {
    const play = await startWrittenServer(t, BLOCKS);
    const { server, dir, socket, uri, history, writer, client, running } = play;
    const middle = await reach(play);
    const pids = {
      old: [middle.oldPid],
      new: [middle.newPid],
      both: [middle.oldPid, middle.newPid],
    };
    // The old one may have just ended by itself.
    for (const pid of pids[who]) if (isAlive(pid)) process.kill(pid, signal);
    for (const pid of middle.stopped) if (isAlive(pid)) process.kill(pid, 'SIGCONT');
    let left: Left;
    let keeps: boolean;
    try {
      const isOpen = expected === 'new or nobody';
      left = isOpen ? await outcomeOf(play, middle) : expected;
      keeps = mayKeep && (!isOpen || left === 'new');
      await settle(play, middle, left);
      t.equal(await clientKnows(play), keeps, keeps ? 'it keeps its client' : 'the client knows');
    } catch (error) {
      throw new Error(`${String(error)}\n${server.log}`, { cause: error });
    }
    writer.stop();
    await running;
    const errors = writer.errors.filter(({ error }) => error !== NBD_ESHUTDOWN);
    t.same([...errors, ...writer.problems], [], 'it met no error but the end of the server');
    if (keeps) await client.disconnect();
    if (left === 'nobody' && signal !== 'SIGKILL') {
      t.notOk(existsSync(socket), 'no socket is left');
      t.notOk(existsSync(join(dir, 'store-nbd.ctl')), 'no control socket is left');
    }

    const before = server.log.length;
    if (left === 'nobody') {
      const pid = server.spawn(['--replace']);
      await waitUntil('a start', LIMIT_MS, () => /^nbd\+unix:/m.test(server.log.slice(before)));
      t.equal(server.pid, pid, 'the next one starts');
    }
    await server.restart('--replace');
    t.notMatch(server.log.slice(before), / (warn|error|fatal) /, 'the next --replace works');
    const late = await NbdClient.connect(uri);
    t.same(await recoverDevice(late, history, 'process'), [], 'nothing that was answered is lost');
    await late.disconnect();
    await server.stop();
    t.notOk(existsSync(socket), 'in the end no socket is left');
    t.notOk(existsSync(join(dir, 'store-nbd.ctl')), 'in the end no control socket is left');
  });
}

t.test('a server that stops takes the process along that it has started', async (t) => {
  const play = await startWrittenServer(t, BLOCKS);
  const { server, writer, running } = play;
  const { pid } = server;
  process.kill(pid, 'SIGUSR2');
  await waitUntil('the start', LIMIT_MS, () => server.log.includes('a new process is starting'));
  process.kill(pid, 'SIGTERM');
  await waitUntil('the old process to end', LIMIT_MS, () => !isAlive(pid));
  const child = Number(/a new process is starting.* process=(\d+)/.exec(server.log)?.[1]);
  t.ok(child > 0 && child !== pid, `it started process ${child}`);
  t.teardown(() => {
    if (child > 0 && isAlive(child)) process.kill(child, 'SIGKILL');
  });
  await waitUntil('the new process to end', LIMIT_MS, () => !isAlive(child));
  t.equal(server.pid, 0, 'nobody has the folder');
  writer.stop();
  await running;
});

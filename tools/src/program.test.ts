/** What every program does with signals and with defects of ours, tried on programs made for it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import t from 'tap';

t.setTimeout(180_000);

/** Runs a program whose one command does `body`; `signals` are sent one by one, each after a line of output. */
async function runBody(
  body: string,
  signals: readonly NodeJS.Signals[] = [],
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const at = (module: string): string => JSON.stringify(new URL(module, import.meta.url).href);
  const source = `
    import { StoreError, invariant } from '@store/core';
    import { newProgram } from ${at('./common-options.js')};
    import { handles, runProgram } from ${at('./program.js')};
    import { UsageError } from ${at('./usage-error.js')};
    const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
    const handler = async (context) => { ${body} };
    await runProgram(handles(newProgram('tried', 'A program to try'), handler));`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', source], {
    cwd: new URL('..', import.meta.url),
  });
  const left = [...signals];
  const output = { stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output.stdout += text;
    const signal = left.shift();
    if (signal !== undefined) child.kill(signal);
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => (output.stderr += text));
  const [code] = (await once(child, 'close')) as [number | null]; // the arguments of 'close'
  return { code, ...output };
}

await t.test('a program that is done exits with 0', async (t) => {
  t.same(await runBody("context.print('done');"), { code: 0, stdout: 'done\n', stderr: '' });
});

await t.test('a failure people can meet is one line and exit code 1, bad usage 2', async (t) => {
  t.same(await runBody("throw new StoreError('E_NO_SPACE', 'The disk is full\\n; free some');"), {
    code: 1,
    stdout: '',
    stderr: 'tried: The disk is full ; free some\n',
  });
  t.match(await runBody("throw new UsageError('Say what');"), {
    code: 2,
    stderr: 'tried: Say what\n',
  });
});

await t.test('a defect of ours is exit code 70, whichever way it shows', async (t) => {
  const thrown = await runBody("invariant(false, 'one is two');");
  t.match(thrown, { code: 70, stderr: /^tried: Internal error: one is two; please report it/ });
  t.notMatch(thrown.stderr, /\n\s+at /);
  for (const body of [
    "setTimeout(() => invariant(false, 'one is two')); await sleep(10_000);",
    "void Promise.reject(new TypeError('one is two')); await sleep(10_000);",
  ]) {
    const { code, stderr } = await runBody(body);
    t.equal(code, 70);
    t.match(stderr, /"level":60.*one is two.*Stopping at once/);
  }
});

await t.test('the first signal asks to stop, the second does not ask', async (t) => {
  const polite =
    "const alive = setInterval(() => {}, 1000); context.print('ready'); await new Promise((resolve) => context.stop.addEventListener('abort', resolve)); clearInterval(alive);";
  t.match(await runBody(polite, ['SIGTERM']), { code: 0, stdout: 'ready\n' });
  t.match(await runBody(polite, ['SIGINT']), { code: 0, stdout: 'ready\n' });
  const stubborn =
    "context.stop.addEventListener('abort', () => context.print('not yet')); context.print('ready'); await sleep(50_000);";
  t.match(await runBody(stubborn, ['SIGTERM', 'SIGTERM']), {
    code: 143,
    stdout: 'ready\nnot yet\n',
  });
  t.match(await runBody(stubborn, ['SIGINT', 'SIGINT']), { code: 130 });
});

/**
 * Runs the simulator: `make sim`, `make sim SEEDS=n`, `make sim SEED=x` (with a trace), `SABOTAGE=name`, `PROFILE=name`,
 * `WITHOUT=kinds of faults`, `FIRST=seed`, `FAILURES=so many, then stop`.
 */
import { argv, env, exit, stderr, stdout } from 'node:process';
import { PROFILES, type ProfileName } from './profiles.js';
import { NO_SABOTAGE, SABOTAGES, type Sabotage } from './sabotage.js';
import { simRun, type RunResult } from './sim-run.js';

/** On a terminal the same line again and again; in a log a line now and then. */
const PROGRESS_MS = stderr.isTTY ? 2000 : 60_000;

function numberOf(name: string): number | null {
  const text = env[name] ?? '';
  return text === '' ? null : Number(text);
}

const without = (env['WITHOUT'] ?? '').split(',');

function profileNames(): ProfileName[] {
  const all = Object.keys(PROFILES) as ProfileName[]; // the table's own keys
  const wanted = env['PROFILE'] ?? '';
  if (wanted === '') return all;
  const found = all.find((name) => name === wanted);
  if (found !== undefined) return [found];
  stderr.write(`There is no profile '${wanted}'; there are ${all.join(', ')}\n`);
  exit(2);
}

function sabotageOf(): Sabotage {
  const wanted = env['SABOTAGE'] ?? '';
  if (wanted === '') return NO_SABOTAGE;
  const found = SABOTAGES.find(({ name }) => name.includes(wanted));
  if (found !== undefined) return found;
  stderr.write(`No planted bug has '${wanted}' in its name:\n`);
  for (const { name } of SABOTAGES) stderr.write(`  ${name}\n`);
  exit(2);
}

async function replay(seed: number, profile: ProfileName, sabotage: Sabotage): Promise<never> {
  const isLive = argv.includes('--live');
  const print = (line: string): boolean => stdout.write(`${line}\n`);
  const result = await simRun({
    ...{ seed, profile, sabotage, without, isTraced: true },
    ...(isLive ? { print } : {}),
  });
  if (!isLive) for (const line of result.lines) print(line);
  stdout.write(`${summary(seed, profile, result)}\n`);
  return leave(result.failure === null ? 0 : 1);
}

function summary(seed: number, profile: ProfileName, result: RunResult): string {
  const { failure, events, virtualMs, ops, hash } = result;
  return `SIM_SEED=${seed} PROFILE=${profile}: ${failure ?? 'nothing is wrong'} (${events} events, ${ops} operations, ${(virtualMs / 1000).toFixed(1)} virtual s, hash ${hash.toString(16)})`;
}

async function batch(
  first: number,
  count: number,
  names: ProfileName[],
  sabotage: Sabotage,
): Promise<void> {
  const counters = new Map<string, number>();
  const started = performance.now();
  let shownAt = started;
  let virtualMs = 0;
  let events = 0;
  const failing: string[] = [];
  const limit = numberOf('FAILURES') ?? 5;
  let done = 0;
  for (let seed = first; seed < first + count && failing.length < limit; seed += 1) {
    // The usual profile takes half of the seeds, the others share the rest.
    const profile =
      names.length === 1 || seed % 2 === 0 ? names[0] : names[((seed - 1) / 2) % names.length];
    if (profile === undefined) break;
    const result = await simRun({ seed, profile, sabotage, without, isTraced: false });
    done += 1;
    virtualMs += result.virtualMs;
    events += result.events;
    for (const [name, times] of result.counters)
      counters.set(name, (counters.get(name) ?? 0) + times);
    if (result.failure !== null) {
      failing.push(summary(seed, profile, result));
      stdout.write(
        `${summary(seed, profile, result)}\n  replay: make sim SEED=${seed} PROFILE=${profile}${sabotage === NO_SABOTAGE ? '' : ` SABOTAGE='${sabotage.name}'`}\n`,
      );
    }
    const now = performance.now();
    if (now - shownAt > PROGRESS_MS) {
      shownAt = now;
      const pace = ((done * 1000) / (now - started)).toFixed(1);
      const line = `${done} of ${count} seeds, ${pace} a second`;
      stderr.write(stderr.isTTY ? `\r${line} ` : `${line}\n`);
    }
  }
  const seconds = (performance.now() - started) / 1000;
  for (const [name, times] of [...counters].sort(([a], [b]) => (a < b ? -1 : 1)))
    stdout.write(`${String(times).padStart(9)}  ${name}\n`);
  stdout.write(
    `${done} seeds from ${first} on: ${failing.length} failed; ${(done / seconds).toFixed(1)} seeds, ${Math.round(events / seconds)} events and ${(virtualMs / 1000 / seconds).toFixed(0)} virtual seconds a second\n`,
  );
  await leave(failing.length > 0 ? 1 : 0);
}

/** Ends the process when all that was printed has gone: into a pipe it goes later. */
async function leave(code: number): Promise<never> {
  await new Promise<void>((resolve) => stdout.write('', () => resolve()));
  exit(code);
}

const names = profileNames();
const sabotage = sabotageOf();
const seed = numberOf('SEED');
if (seed !== null) await replay(seed, names[0] ?? 'usual', sabotage);
else await batch(numberOf('FIRST') ?? 1, numberOf('SEEDS') ?? 200, names, sabotage);

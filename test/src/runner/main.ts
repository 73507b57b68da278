/**
 * Runs the compiled tests of all packages in three lanes: unit tests, system tests, and those in an emulated machine, which
 * keep one processor busy and hardly look at the clock. Stories about copies, which mostly wait for daemons to notice each
 * other's absence, come after them, and a lane that has nothing left helps with the unit tests. More lanes would end no
 * sooner on two processors, and make everybody late. Prints a line for each file, the full output of those that failed, and at the very end one line
 * of the form `123 passed, 0 failed, 2 skipped`. Exits 1 when anything failed.
 *
 * `FILES="kill power"` in the environment runs the files whose names contain one of the words.
 */
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runFile, sweepRunning } from './run-file.js';
import type { FileResult } from './run-file.js';
import { findTestFiles } from './test-files.js';
import type { TestFile } from './test-files.js';

/** They boot a kernel under QEMU. */
const EMULATED = /system\/kernel-[^/]*$/;
/** Clusters whose daemons die. */
const ABOUT_COPIES =
  /system\/(accepted-loss|chaos|cluster-filesystems|(both|deleted|disk-comes|first-eio|flipped-bit-comes|full-replica|kill-(primary|replica)|power-loss-of|primary-paused|restarted-copy|stale-copy)-[^/]*)\.test\.ts$/;

const root = resolve(fileURLToPath(new URL('../../..', import.meta.url)));
for (const [signal, code] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const)
  process.once(signal, () => {
    sweepRunning();
    process.exit(code);
  });
process.exitCode = await main(root, (process.env['FILES'] ?? '').split(/\s+/).filter(Boolean));

async function main(root: string, wanted: readonly string[]): Promise<number> {
  const files = findTestFiles(root, wanted);
  const results: FileResult[] = [];
  const unit = files.filter((file) => !file.system);
  const emulated = files.filter(({ source }) => EMULATED.test(source));
  const copies = files.filter(({ source }) => ABOUT_COPIES.test(source));
  const others = files.filter(
    (file) => file.system && !emulated.includes(file) && !copies.includes(file),
  );
  const lane = (...lists: TestFile[][]): Promise<void> => runLane(lists, root, results);
  await Promise.all([lane(unit, copies), lane(others, copies, unit), lane(emulated, copies, unit)]);
  return summarize(results, wanted);
}

/** Takes files from the lists, which lanes share, until they are empty, one list after the other. */
async function runLane(
  lists: readonly TestFile[][],
  root: string,
  results: FileResult[],
): Promise<void> {
  for (const files of lists)
    for (let file = files.shift(); file !== undefined; file = files.shift()) {
      const result = await runFile(file, root);
      results.push(result);
      report(result);
    }
}

function hasFailed(result: FileResult): boolean {
  return result.tally.failed > 0 || result.problems.length > 0;
}

function report(result: FileResult): void {
  const { tally, file, ms, problems } = result;
  const counts = [
    `${tally.passed} passed`,
    ...(tally.failed > 0 ? [`${tally.failed} failed`] : []),
    ...(tally.skipped.length > 0 ? [`${tally.skipped.length} skipped`] : []),
  ].join(', ');
  const verdict = hasFailed(result) ? 'FAIL' : 'ok  ';
  console.log(`${verdict} ${file.source} (${counts}, ${(ms / 1000).toFixed(1)} s)`);
  if (!hasFailed(result)) return;
  for (const problem of problems) console.log(`     ${problem}`);
  console.log(`---- output of ${file.source}\n${result.output.trimEnd()}\n----`);
}

/** A file that failed as a whole counts as one failed test, even if all its stories passed. */
function summarize(results: readonly FileResult[], wanted: readonly string[]): number {
  let passed = 0;
  let failed = 0;
  let skipped = 0;
  console.log('');
  for (const result of results) {
    passed += result.tally.passed;
    failed += result.tally.failed;
    skipped += result.tally.skipped.length;
    if (result.problems.length > 0 && result.tally.failed === 0) failed += 1;
    for (const reason of result.tally.skipped)
      console.log(`skipped: ${result.file.source}: ${reason}`);
  }
  for (const result of results.filter(hasFailed))
    console.log(`failed: ${result.file.source} ${result.problems.join('; ')}`);
  if (results.length === 0) {
    failed += 1;
    console.log(
      wanted.length > 0 ? `no test file matches '${wanted.join(' ')}'` : 'no tests found',
    );
  }
  console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
  return failed > 0 ? 1 : 0;
}

/**
 * Counts what a test program reports in TAP 14. A story (a top-level test point) is one test; a skipped
 * point counts wherever it stands, so that nothing is skipped in silence. A program that prints no test
 * point, a wrong plan or a bail-out has failed, whatever its exit code says.
 */

/** What one test program reported. */
export interface TapTally {
  readonly passed: number;
  readonly failed: number;
  /** One line for each skipped test: its title and why. */
  readonly skipped: readonly string[];
  /** What makes the report itself unusable, or null. */
  readonly malformed: string | null;
}

const POINT = /^( *)(not )?ok\b(?: \d+)?(?: - )?(.*?)(?: # (SKIP|TODO)\b ?(.*))?$/i;
const PLAN = /^1\.\.(\d+)(?: # SKIP ?(.*))?/i;

/** Counts the test points in the whole output of a program. */
export function tallyTap(output: string): TapTally {
  let passed = 0;
  let failed = 0;
  let points = 0;
  let planned: number | null = null;
  let bailed: string | null = null;
  let inDiagnostic: string | null = null;
  const skipped: string[] = [];
  for (const line of output.split('\n')) {
    const indent = /^ */.exec(line)?.[0] ?? '';
    if (inDiagnostic !== null) {
      if (line === `${inDiagnostic}...`) inDiagnostic = null;
      continue;
    }
    if (line === `${indent}---` && indent.length % 4 === 2) {
      inDiagnostic = indent;
      continue;
    }
    if (line.startsWith('Bail out!')) bailed = line;
    const plan = PLAN.exec(line);
    if (plan !== null) {
      planned = Number(plan[1]);
      if (plan[2] !== undefined) skipped.push(plan[2] === '' ? 'the whole file' : plan[2]);
      continue;
    }
    const point = POINT.exec(line);
    if (point === null) continue;
    const [, pointIndent = '', not, title = '', directive, reason] = point;
    const top = pointIndent === '';
    if (top) points += 1;
    if (directive !== undefined) skipped.push(`${title.trim()}: ${reason ?? ''}`);
    else if (top && not === undefined) passed += 1;
    else if (top) failed += 1;
  }
  return { passed, failed, skipped, malformed: bailed ?? whatIsWrong(planned, points) };
}

function whatIsWrong(planned: number | null, points: number): string | null {
  if (planned === null) return 'ended without a plan';
  if (planned !== points) return `planned ${planned} tests and reported ${points}`;
  return null;
}

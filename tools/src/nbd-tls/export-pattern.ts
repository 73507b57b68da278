/**
 * Names of exports with wildcards: `vm1` is that one, `db-*` every name that begins so, `*` all of them.
 */
import { StoreError } from '@store/core';

/** Whether one of `patterns` names the export. */
export function matchesPattern(patterns: readonly string[], exportName: string): boolean {
  return patterns.some((pattern) =>
    pattern.endsWith('*') ? exportName.startsWith(pattern.slice(0, -1)) : exportName === pattern,
  );
}

/** @throws StoreError `E_INVALID` if it is empty, or its `*` is not at its end */
export function checkPattern(pattern: string): void {
  if (pattern === '') throw new StoreError('E_INVALID', 'A name of an export is empty');
  if (pattern.slice(0, -1).includes('*'))
    throw new StoreError('E_INVALID', `'${pattern}': only the end of a name can be a *`);
}

/**
 * Metadata contexts by name: which of them a query means. `base:allocation` exists on every export; others come from
 * its backend. Queries in a namespace we do not know mean nothing, and that is no error.
 */

export const BASE_ALLOCATION = 'base:allocation';

/** Every context of an export, in the order their ids are given. */
export function contextsOf(facts: { readonly contexts?: readonly string[] }): string[] {
  return [BASE_ALLOCATION, ...(facts.contexts ?? [])];
}

/**
 * NBD_OPT_LIST_META_CONTEXT: no queries ask for everything, and a namespace alone (`base:`) for all of it.
 * @returns Names out of `available`, each once.
 */
export function listContexts(available: readonly string[], queries: readonly string[]): string[] {
  if (queries.length === 0) return [...available];
  const asked = new Set(queries);
  return available.filter((name) => asked.has(name) || asked.has(namespaceOf(name)));
}

/** NBD_OPT_SET_META_CONTEXT: full names only; a namespace alone selects nothing. */
export function selectContexts(available: readonly string[], queries: readonly string[]): string[] {
  const asked = new Set(queries);
  return available.filter((name) => asked.has(name));
}

/** `base:allocation` -> `base:` */
function namespaceOf(name: string): string {
  return name.slice(0, name.indexOf(':') + 1);
}

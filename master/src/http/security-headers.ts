/**
 * What every answer says to browsers. The dashboard has all its parts in files of its own, so nothing else may run or
 * load, even if somebody's text should get into the page as markup one day.
 */
export const SECURITY_HEADERS: readonly (readonly [name: string, value: string])[] = [
  [
    'content-security-policy',
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  ],
  ['x-content-type-options', 'nosniff'],
  ['x-frame-options', 'DENY'],
  ['referrer-policy', 'no-referrer'],
  ['cross-origin-opener-policy', 'same-origin'],
  ['cross-origin-resource-policy', 'same-origin'],
  // Files of the dashboard say something milder.
  ['cache-control', 'no-store'],
];

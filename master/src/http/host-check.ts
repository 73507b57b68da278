/**
 * Whether a request was meant for us. A page of a stranger can have its own name resolve to a master's address (DNS
 * rebinding), and then reads with the browser's blessing whatever the master tells people on its network; its name in
 * the Host header gives it away. An IP address cannot be rebound, nor can the names of loopback.
 */

/**
 * @param header - The Host header, or undefined.
 * @param names - Host names this master goes by, in lower case.
 */
export function isOurHost(header: string | undefined, names: ReadonlySet<string>): boolean {
  const name = hostOf(header);
  if (name === null) return false;
  return isAddress(name) || isLoopbackName(name) || names.has(name);
}

/** The name or address in a Host header, as the URL standard writes it; null: there is none. */
function hostOf(header: string | undefined): string | null {
  if (header === undefined || !/^[\w.:[\]-]+$/.test(header)) return null;
  const url = `http://${header}/`;
  return URL.canParse(url) ? new URL(url).hostname.replace(/\.$/, '') : null;
}

/** A host that ends in a number is an IPv4 address by the URL standard, which has also made four numbers of it. */
function isAddress(name: string): boolean {
  return name.startsWith('[') || /^\d+\.\d+\.\d+\.\d+$/.test(name);
}

function isLoopbackName(name: string): boolean {
  return name === 'localhost' || name.endsWith('.localhost');
}

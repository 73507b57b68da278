/** Addresses as connections tell them: `127.0.0.1:4148`, `[::1]:4148`, or `unix`. */

/** @param peer - `127.0.0.1:4148`, `[::1]:4148`, `[::ffff:127.0.0.1]:4148`, or `unix` */
export function isLoopbackPeer(peer: string): boolean {
  if (peer === 'unix') return true;
  const host = hostOfPeer(peer);
  return host === '::1' || /^127\.\d+\.\d+\.\d+$/.test(host);
}

/** The address of a peer without its port; an IPv4 address that came in through an IPv6 socket as itself. */
export function hostOfPeer(peer: string): string {
  return peer
    .replace(/:\d+$/, '')
    .replace(/^\[|\]$/g, '')
    .replace(/^::ffff:/i, '');
}

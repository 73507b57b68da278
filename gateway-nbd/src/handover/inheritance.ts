/**
 * Whether a session that another server began can go on here, exactly as it was promised. What a client was told
 * (size, flags, contexts, smallest block) cannot be taken back, so a server that would say something else does not
 * take it.
 */
import { closeDescriptor, StoreError, type Log } from '@store/core';
import type { ExportDoor, OpenedExport } from '../export-door.js';
import type { HandshakeRules } from '../handshake/handshake.js';
import { contextsOf } from '../handshake/metadata-contexts.js';
import { transmissionFlags } from '../handshake/transmission-flags.js';
import type { HandedSession } from './estate.js';

/** Sessions that another server began. */
export interface Inheritance {
  readonly sessions: readonly HandedSession[];
  /**
   * False: one session that cannot go on here is a reason to take none, because the server it comes from can still go
   * on with all. True: it is closed, and the others go on.
   */
  readonly lenient: boolean;
  /**
   * Called when every export is open, before a byte is read: resolves when the other server has let go for good.
   * @throws StoreError if it goes on instead: nothing may be touched then
   */
  confirm(): Promise<void>;
}

/** What a client was told of its export, in this server's words. */
export function promisesOf(
  opened: OpenedExport,
  { negotiated }: Pick<HandedSession, 'negotiated'>,
  rules: HandshakeRules,
): Pick<HandedSession, 'openedName' | 'bytes' | 'flags' | 'blockBytesMin'> {
  const { headers, contexts } = negotiated;
  return {
    openedName: opened.name,
    bytes: opened.facts.bytes,
    flags: transmissionFlags(opened.facts, headers, contexts.length > 0),
    blockBytesMin: rules.blockBytesMin,
  };
}

/** A session that can go on here; both belong to who gets it. */
export interface InheritedSession {
  readonly session: HandedSession;
  readonly opened: OpenedExport;
}

/**
 * Opens the exports of all sessions, then asks for the confirmation that they are ours.
 * @throws StoreError `E_INVALID` if one cannot go on here, and what `confirm` throws; their descriptors
 * are closed then: who handed them over has others
 */
export async function openSessions(
  inherited: Inheritance,
  door: ExportDoor,
  rules: HandshakeRules,
  log: Log,
): Promise<InheritedSession[]> {
  const ready: InheritedSession[] = [];
  const refused = new Set<HandedSession>();
  try {
    for (const session of inherited.sessions)
      try {
        ready.push({ session, opened: await openFor(session, door, rules) });
      } catch (error) {
        if (!inherited.lenient || !(error instanceof StoreError)) throw error;
        log.error({ export: session.openedName }, `Client disconnected: ${error.message}`);
        closeDescriptor(session.descriptor);
        refused.add(session);
      }
    await inherited.confirm();
  } catch (error) {
    for (const session of inherited.sessions)
      if (!refused.has(session)) closeDescriptor(session.descriptor);
    for (const { opened } of ready) await opened.close();
    throw error;
  }
  return ready;
}

/**
 * Opens the export of a session, which belongs to the caller then.
 * @throws StoreError `E_INVALID` if the session cannot go on here
 */
async function openFor(
  session: HandedSession,
  door: ExportDoor,
  rules: HandshakeRules,
): Promise<OpenedExport> {
  const { exportName } = session.negotiated;
  if (rules.tls === 'forced' || (rules.tls === 'selective' && rules.needsTls(exportName)))
    throw refusal(session, 'it is in the clear, and TLS is asked for now');
  const { result, opened } = await door.lookUp({ kind: 'open', name: exportName }, null);
  if (opened === null)
    throw refusal(session, result.kind === 'failed' ? result.error.message : 'there is none now');
  const problem = difference(session, opened, rules);
  if (problem === null) return opened;
  await opened.close();
  throw refusal(session, problem);
}

function difference(
  session: HandedSession,
  opened: OpenedExport,
  rules: HandshakeRules,
): string | null {
  const { negotiated } = session;
  const now = promisesOf(opened, session, rules);
  if (now.openedName !== session.openedName) return `that name means '${now.openedName}' now`;
  if (now.bytes !== session.bytes)
    return `its size was ${session.bytes} bytes and is ${now.bytes} now`;
  if (now.flags !== session.flags)
    return `its flags were 0x${session.flags.toString(16)} and are 0x${now.flags.toString(16)} now`;
  if (negotiated.knowsBlockSizes && now.blockBytesMin > session.blockBytesMin)
    return `its smallest block was ${session.blockBytesMin} and is ${now.blockBytesMin} now`;
  const available = contextsOf(opened.facts);
  const lost = negotiated.contexts.find(({ name }) => !available.includes(name));
  return lost === undefined ? null : `the metadata context ${lost.name} is not there now`;
}

function refusal({ openedName, negotiated }: HandedSession, why: string): StoreError {
  const name = negotiated.exportName === '' ? openedName : negotiated.exportName;
  return new StoreError('E_INVALID', `A client of export '${name}' cannot go on here: ${why}`);
}

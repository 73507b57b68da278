/**
 * What an NBD server owes its clients, piece by piece, in our own words. Tests begin their titles with the ids they
 * prove (`H2: a client flag that nobody offered ends the connection`); `checklist-table.ts` makes the table in
 * gateway-nbd/README.md out of both. Ids never change their meaning.
 *
 * Sources: NetworkBlockDevice/nbd, doc/proto.md and its branch extension-ext-header, doc/uri.md.
 */
export interface ChecklistItem {
  readonly id: string;
  /** One line for people. */
  readonly what: string;
  /** Why there is no test, if there is none. */
  readonly reason?: string;
  /** A test file that is about nothing else, so that its titles need no ids. */
  readonly file?: string;
}

const item = (id: string, what: string): ChecklistItem => ({ id, what });
const absent = (id: string, what: string, reason: string): ChecklistItem => ({ id, what, reason });

const WIRE: readonly ChecklistItem[] = [
  item('W1', 'all integers are big-endian and unsigned'),
  item('W2', 'strings are UTF-8 without NUL, at most 4096 bytes'),
  item('W3', 'small answers do not wait for more: TCP_NODELAY'),
  item('W4', 'newstyle on port 10809; the old style is never spoken'),
  item('W5', 'Unix sockets serve as well as TCP'),
  item('W6', 'handshake and transmission never mix'),
  item('W7', 'cookies come back bit for bit; 64-bit numbers are never rounded into range'),
  item('FLAGS', 'transmission flags say what holds, and nothing else'),
];

const OPENING: readonly ChecklistItem[] = [
  item('H1', 'the server speaks first: two magic numbers and its two flags'),
  item('H2', 'a client flag that was not offered ends the connection'),
  item('H3', 'a client without fixed newstyle may send EXPORT_NAME and nothing else'),
  item('H4', 'an option with a wrong magic number ends the connection'),
  item('H5', 'replies to options echo the option and carry their length'),
  item('H6', 'an unknown option is UNSUP, and the next one is understood'),
  item('H7', 'options sent ahead are answered in order, never lost'),
  item('H8', 'an option that changes state may be repeated'),
  item('H9', 'refusals keep the conversation going'),
  item('H10', 'while shutting down options are SHUTDOWN, and ABORT works'),
  item('H11', 'limits of the handshake: option bytes, options, time; nothing is opened before GO'),
];

const OPTIONS: readonly ChecklistItem[] = [
  item('EXPORT_NAME', 'size, flags and zeros, or the end: there is no error form'),
  item('ABORT', 'acknowledged whatever it carries'),
  item('LIST', 'every export with its description; data is INVALID'),
  item('PEEK_EXPORT', 'withdrawn: UNSUP'),
  item('STARTTLS', 'no data; see T1 to T13'),
  item('INFO', 'size, flags, name, description and block sizes, without opening anything'),
  item('GO', 'as INFO, then transmission; a refusal stays in the handshake'),
  item('STRUCTURED_REPLY', 'acknowledged without data; not over extended headers'),
  item('LIST_META_CONTEXT', 'contexts by name, by namespace, or all of them'),
  item('SET_META_CONTEXT', 'replaces the selection, also when it fails'),
  item('EXTENDED_HEADERS', 'acknowledged without data; takes precedence'),
];

const TLS: readonly ChecklistItem[] = [
  item('T1', 'TLS 1.2 and 1.3, nothing older'),
  item('T2', 'one of three modes, the same for the whole connection'),
  item('T3', 'STARTTLS carries no data'),
  item('T4', 'without TLS, STARTTLS is refused and nothing is TLS_REQD'),
  item('T5', 'forced: in the clear only STARTTLS and ABORT work, and nothing leaks'),
  item('T6', 'selective: TLS_REQD for INFO and GO of a TLS-only export alone'),
  item('T7', 'nothing in the clear after STARTTLS is ever obeyed'),
  item('T8', 'TLS forgets what was negotiated before; the client flags stay'),
  item('T9', 'STARTTLS inside TLS is INVALID'),
  item('T10', 'a TLS handshake that fails ends the connection'),
  item('T11', 'no way back into the clear; TLS says goodbye before TCP'),
  item('T12', 'rights follow the identity of certificate or key'),
  item('T13', 'against downgrade: forced mode or TLS-only exports'),
];

const SIZES: readonly ChecklistItem[] = [
  item('S1', 'without negotiation any byte range up to 32 MiB works'),
  item('S2', 'advertised sizes obey the rules for powers of two and maxima'),
  item('S3', 'block sizes bind those that asked for them in GO, and nobody else'),
  item('S4', 'a limit a client did not hear of never damages data'),
  item('S5', 'unaligned to an agreed block, or past the end, is an error'),
  item('S6', 'the payload limit is for payloads: TRIM and the like take any length'),
  item('S7', 'a refused payload is drained; above 32 MiB the client is cut off'),
  item(
    'S8',
    'smallest block 1 unless the operator says otherwise; part of a block is written alone',
  ),
];

const REQUESTS: readonly ChecklistItem[] = [
  item('X1', 'compact requests; a wrong magic number ends the connection'),
  item('X2', 'answers in any order, each with its cookie'),
  item('X3', 'FLUSH makes durable what was answered before it'),
  item('X4', 'FUA is answered when durable, and accepted on every command'),
  item('X5', 'with several connections FLUSH and FUA count for all of them'),
  item('X6', 'FUA on a READ is no error'),
  item('X7', 'a request of no bytes succeeds and does nothing'),
  item('X8', 'unknown commands and flags are EINVAL, and the stream stays in step'),
  item('X9', 'too many requests wait in the socket; none is refused for lack of memory'),
  item('X10', 'only the error numbers of the protocol are sent'),
  item('FAIR', 'a client that floods does not starve one that asks a little'),
];

const COMMANDS: readonly ChecklistItem[] = [
  item('READ', 'header and data together, or an error and no byte of data'),
  item('WRITE', 'the payload is stored, then answered'),
  item('DISC', 'no answer; what is under way is finished, the rest ignored'),
  item('FLUSH', 'offset and length are zero, anything else is EINVAL'),
  item('TRIM', 'reads as zeros afterwards'),
  item('CACHE', 'reads ahead and changes nothing'),
  item('WRITE_ZEROES', 'reads as zeros; NO_HOLE and FAST_ZERO are honoured'),
  item('BLOCK_STATUS', 'extents of each selected context; REQ_ONE gives one'),
  absent(
    'RESIZE',
    'a new size while connected',
    'an experiment of 2017 that no client has; the command is EINVAL like any unknown one (X8)',
  ),
];

const REPLIES: readonly ChecklistItem[] = [
  item('R1', 'simple replies: magic, error, cookie, and data only on success'),
  item('R2', 'which kind of reply goes with what was negotiated'),
  item('R3', 'chunks: one DONE, and it is on the last'),
  item('R4', 'no reply flag but DONE'),
  item('R5', 'NONE is empty and DONE'),
  item('R6', 'OFFSET_DATA lies inside the request and does not overlap'),
  item('R7', 'OFFSET_HOLE has 12 bytes and a size'),
  item('R8', 'a READ that succeeds covers the whole request, in few chunks'),
  item('R9', 'no chunk of data is followed by an error'),
  item('R10', 'ERROR: a number that is not 0 and a message'),
  item('R11', 'ERROR_OFFSET: as ERROR, with a place inside the request'),
  item('R12', 'DF: one chunk of data, zeros and all'),
  item('R13', 'BLOCK_STATUS chunks: context, then pairs of length and status'),
];

const EXTENDED: readonly ChecklistItem[] = [
  item('E1', 'the option needs nothing before it and is forgotten by STARTTLS'),
  item('E2', 'requests of 32 bytes with 64-bit lengths'),
  item('E3', 'PAYLOAD_LEN: WRITE must have it, who must not is drained and EINVAL'),
  item('E4', 'a payload above the maximum ends the connection'),
  item('E5', 'every reply is extended and repeats the offset of the request'),
  item('E6', 'extents with 64-bit lengths; the upper half of a status is zero'),
  item('E7', 'BLOCK_STATUS with a payload answers the contexts it names'),
  item('E8', 'a READ beyond 32 bits is refused at once'),
  absent(
    'E9',
    'contexts that need 64 bits of status ask for extended headers',
    'no context of ours needs more than 32 bits',
  ),
  item('E10', 'EXPORT_NAME afterwards ends the connection'),
];

const ERROR_MAP: readonly ChecklistItem[] = [
  item('M1', 'past the end: EINVAL, and ENOSPC for WRITE and WRITE_ZEROES'),
  item('M2', 'unaligned to an agreed block: EINVAL'),
  item('M3', 'read-only: EPERM for what changes data'),
  item('M4', 'an unknown or misplaced flag: EINVAL, after draining'),
  item('M5', 'a command that was not advertised: EINVAL'),
  item('M6', 'no space: ENOSPC'),
  item('M7', 'longer than the largest payload: by command'),
  item('M8', 'DF and too long: EOVERFLOW'),
  item('M9', 'FAST_ZERO and slow: ENOTSUP'),
  item('M10', 'the backend fails: EIO with place and words'),
  item('M11', 'shutting down: ESHUTDOWN'),
  absent(
    'M12',
    'the right to write was lost: EPERM',
    'there are no writer locks before there is a cluster; what a backend refuses as read-only is EPERM (M3)',
  ),
];

const DISCONNECTS: readonly ChecklistItem[] = [
  item('D1', 'ABORT and DISC: work is finished, then TLS, then TCP closed'),
  item('D2', 'the server hangs up only on a broken rule, and on that client alone'),
  item('D3', 'shutting down finishes what is in flight and refuses the rest'),
  item('D4', 'a client that vanishes: what was accepted stays, and settles before a successor'),
  item('D5', 'bytes after DISC are ignored'),
  item('D6', 'no option is understood after the handshake'),
];

const TRAPS: readonly ChecklistItem[] = [
  item('TRAP1', 'BLOCK_SIZE_REQD would lock out the kernel: it is never sent'),
  item('TRAP2', 'INFO opens nothing and takes no lock'),
  item('TRAP3', 'GO on another name leaves no contexts, and BLOCK_STATUS is EINVAL'),
  item('TRAP4', 'context options on a hidden export are UNKNOWN, not TLS_REQD'),
  item('TRAP5', 'mkfs and blkdiscard: a TRIM longer than any payload works'),
  absent(
    'TRAP6',
    'two gateways that cache must not both offer several connections',
    'one process owns a folder (folder-owner.test.ts), so there is one gateway; several come with the cluster',
  ),
  item('TRAP7', 'a READ is complete and checked before its header is sent'),
  item('TRAP8', 'allocated means: space is taken; everything else is a hole'),
  item('TRAP9', 'extents of 32 bits never overflow'),
  item('TRAP10', 'a planned restart answers nobody ESHUTDOWN'),
];

const HOSTILE: readonly ChecklistItem[] = [
  item('CVE-2019-14842', 'what a forced server tells in the clear (nbdkit)'),
  item('CVE-2019-14850', 'connections that open a backend before they ask (nbdkit)'),
  item('CVE-2021-3716', 'bytes injected behind STARTTLS (nbdkit)'),
  item('CVE-2022-26495', 'a name length that overflows the allocation (nbd-server)'),
  item('CVE-2022-26496', 'a name length beyond its buffer (nbd-server)'),
  item('CVE-2023-5215', 'an export larger than a client can count'),
  item('CVE-2024-7409', 'connections that never finish the handshake (QEMU)'),
  item('CVE-2025-47711', 'an extent that rounds beyond 32 bits (nbdkit)'),
  item('CVE-2025-47712', 'a range that rounds beyond 32 bits (nbdkit)'),
  item('F12', 'a stalled write of a dead connection never lands on newer data'),
  absent('F25', 'a corrupt map in every control message', 'no control messages before the cluster'),
  item('F26', 'STARTTLS injection; state kept from before TLS'),
  item('F27', 'TLS downgrade; exports listed before TLS'),
  item('F28', 'every length and offset at its limits: an answer or the end, and no memory'),
  item('F29', '1,000 slow or idle connections do not keep a good client out'),
];

/** All of it, in the order of the table. */
export const CHECKLIST: readonly ChecklistItem[] = [
  ...WIRE,
  ...OPENING,
  ...OPTIONS,
  ...TLS,
  ...SIZES,
  ...REQUESTS,
  ...COMMANDS,
  ...REPLIES,
  ...EXTENDED,
  ...ERROR_MAP,
  ...DISCONNECTS,
  {
    id: 'U',
    what: 'NBD URIs, printed and understood',
    file: 'gateway-nbd/src/uri-parser.test.ts',
  },
  ...TRAPS,
  ...HOSTILE,
];

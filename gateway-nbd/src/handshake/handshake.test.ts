import { StoreError } from '@store/core';
import t from 'tap';
import { NBD_INFO, NBD_OPT, NBD_REP } from '../protocol/constants.js';
import { clientFlags, exportRequest, option } from '../testing/raw-client.js';
import { Handshake, type HandshakeAction, type LookUp, type LookUpResult } from './handshake.js';

const FACTS = {
  bytes: 0x1122334455,
  readOnly: false,
  fastZeroBytes: 0,
  contexts: ['x-test:depth'],
  description: 'a disk',
};
const RULES = { tls: 'off' as const, needsTls: () => false, blockBytesMin: 1 };

function answer(what: LookUp): LookUpResult {
  if (what.kind === 'list')
    return {
      kind: 'list',
      exports: [
        { name: 'a', description: '' },
        { name: 'ä', description: 'two' },
      ],
    };
  if (what.name === 'locked')
    return { kind: 'failed', error: new StoreError('E_IN_USE', 'Somebody else writes to it') };
  return { kind: 'export', found: what.name === 'nix' ? null : FACTS };
}

/** Feeds the chunks and answers look-ups at once; returns what was sent, looked up, and how it ended. */
function play(chunks: readonly Buffer[], machine = new Handshake(RULES)) {
  const sent: Buffer[] = [];
  const lookUps: string[] = [];
  let end: HandshakeAction | undefined;
  const perform = (actions: HandshakeAction[]): void => {
    for (const action of actions) {
      if (action.kind === 'send') sent.push(action.bytes);
      else if (action.kind === 'look-up') {
        lookUps.push(`${action.what.kind} ${'name' in action.what ? action.what.name : ''}`);
        perform(machine.resume(answer(action.what)));
      } else end = action;
    }
  };
  const rests: Buffer[] = [];
  for (const chunk of chunks) {
    if (end?.kind === 'transmit') rests.push(chunk);
    else perform(machine.receive(chunk));
  }
  const rest = end?.kind === 'transmit' ? Buffer.concat([end.rest, ...rests]).toString('hex') : '';
  const reason = end?.kind === 'drop' ? end.reason : '';
  return { sent: Buffer.concat(sent).toString('hex'), lookUps, end: end?.kind, rest, reason };
}

/** The types of the option replies in `hex`. */
function replyTypes(hex: string): number[] {
  const bytes = Buffer.from(hex, 'hex');
  const types: number[] = [];
  for (let at = 0; at < bytes.length; at += 20 + bytes.readUInt32BE(at + 16)) {
    if (bytes.readBigUInt64BE(at) !== 0x0003e889045565a9n) throw new Error(`no reply at ${at}`);
    types.push(bytes.readUInt32BE(at + 12));
  }
  return types;
}

const FIXED = clientFlags(3);
const one = (number: number, data: Buffer | string = '') => play([FIXED, option(number, data)]);

t.test('H1: the server speaks first, with NBDMAGIC, IHAVEOPT and two flags', (t) => {
  t.equal(new Handshake(RULES).start().toString('hex'), '4e42444d4147494349484156454f50540003');
  t.end();
});

t.test('GO: INFO_EXPORT and ACK, byte for byte, and the transmission begins', (t) => {
  const result = play([FIXED, option(NBD_OPT.GO, exportRequest('vm')), Buffer.from('abcd', 'hex')]);
  t.equal(
    result.sent,
    '0003e889045565a9' +
      '00000007' +
      '00000003' +
      '0000000c' +
      '0000' +
      '0000001122334455' +
      '056d' +
      '0003e889045565a9' +
      '00000007' +
      '00000001' +
      '00000000',
  );
  t.strictSame([result.end, result.rest, result.lookUps], ['transmit', 'abcd', ['open vm']]);
  t.end();
});

t.test('INFO: name, description and block sizes for who asks, and nothing is opened', (t) => {
  const asked = [NBD_INFO.NAME, NBD_INFO.DESCRIPTION, NBD_INFO.BLOCK_SIZE, 77, NBD_INFO.NAME];
  const result = one(NBD_OPT.INFO, exportRequest('vm', asked));
  t.strictSame(replyTypes(result.sent), [3, 3, 3, 3, 1]);
  t.match(
    result.sent,
    '0000000e' + '0003' + '00000001' + '00001000' + '02000000',
    'block sizes (S1)',
  );
  t.match(result.sent, '0001' + Buffer.from('vm').toString('hex'), 'name');
  t.match(result.sent, '0002' + Buffer.from('a disk').toString('hex'), 'description');
  t.strictSame([result.end, result.lookUps], [undefined, ['info vm']]);
  t.end();
});

t.test('EXPORT_NAME: size, flags and 124 zeros, unless these were agreed away', (t) => {
  const facts = '0000001122334455' + '056d';
  const zeroes = '00'.repeat(124);
  t.equal(play([clientFlags(1), option(1, 'vm')]).sent, facts + zeroes);
  t.equal(play([clientFlags(3), option(1, 'vm')]).sent, facts);
  t.equal(play([clientFlags(0), option(1, '')]).sent, facts + zeroes, 'H3: without fixed newstyle');
  t.equal(play([FIXED, option(1, 'nix')]).end, 'drop');
  t.equal(play([FIXED, option(1, 'locked')]).end, 'drop');
  t.equal(play([FIXED, option(1, 'x'.repeat(4097))]).end, 'drop');
  t.equal(play([FIXED, option(1, Buffer.from('ff', 'hex'))]).end, 'drop', 'not UTF-8');
  t.end();
});

t.test('LIST: every export is named; with data it is INVALID', (t) => {
  const result = one(NBD_OPT.LIST);
  t.strictSame(replyTypes(result.sent), [NBD_REP.SERVER, NBD_REP.SERVER, NBD_REP.ACK]);
  t.match(result.sent, '00000009' + '00000002' + 'c3a4' + '74776f', 'length, name, description');
  t.strictSame(replyTypes(one(NBD_OPT.LIST, 'x').sent), [NBD_REP.ERR_INVALID]);
  t.end();
});

t.test('ABORT: acknowledged, whatever its data', (t) => {
  const result = one(NBD_OPT.ABORT, 'bye');
  t.strictSame([replyTypes(result.sent), result.end], [[NBD_REP.ACK], 'end']);
  t.end();
});

t.test('H6, PEEK_EXPORT: unknown options are UNSUP and the next one is understood', (t) => {
  for (const number of [0, 4, 12, 0xffffffff]) {
    const result = play([
      FIXED,
      option(number, 'some data'),
      option(NBD_OPT.GO, exportRequest('')),
    ]);
    t.strictSame(replyTypes(result.sent), [NBD_REP.ERR_UNSUP, NBD_REP.INFO, NBD_REP.ACK]);
    t.equal(result.end, 'transmit');
  }
  t.end();
});

t.test(
  'H9: an unknown export is UNKNOWN, a refusal POLICY with its reason, and haggling goes on',
  (t) => {
    const result = play([
      FIXED,
      option(NBD_OPT.GO, exportRequest('nix')),
      option(NBD_OPT.GO, exportRequest('locked')),
      option(NBD_OPT.INFO, exportRequest('nix')),
    ]);
    t.strictSame(replyTypes(result.sent), [
      NBD_REP.ERR_UNKNOWN,
      NBD_REP.ERR_POLICY,
      NBD_REP.ERR_UNKNOWN,
    ]);
    t.match(result.sent, Buffer.from('Somebody else writes to it').toString('hex'));
    t.equal(result.end, undefined);
    t.end();
  },
);

t.test('W2, GO: lengths that contradict each other, or a bad name, are INVALID', (t) => {
  const good = exportRequest('name', [3]);
  const longName = Buffer.from(good);
  longName.writeUInt32BE(0xffffffff, 0);
  const manyInfos = Buffer.from(good);
  manyInfos.writeUInt16BE(0xffff, 8);
  const bad = [
    Buffer.alloc(0),
    Buffer.alloc(5),
    longName,
    manyInfos,
    Buffer.concat([good, Buffer.alloc(1)]),
    good.subarray(0, good.length - 1),
    exportRequest('a\0b'),
    exportRequest('x'.repeat(4097)),
  ];
  for (const data of bad) {
    const result = one(NBD_OPT.GO, data);
    t.strictSame([replyTypes(result.sent), result.lookUps], [[NBD_REP.ERR_INVALID], []]);
  }
  t.end();
});

t.test('H11: 64 KiB of option data, 64 options, nothing above 1 MiB', (t) => {
  const big = option(77, Buffer.alloc(65537));
  const after = play([FIXED, big, option(NBD_OPT.LIST)]);
  t.strictSame(replyTypes(after.sent).slice(0, 2), [NBD_REP.ERR_TOO_BIG, NBD_REP.SERVER]);
  t.strictSame(replyTypes(one(77, Buffer.alloc(65536)).sent), [NBD_REP.ERR_UNSUP]);
  const huge = option(77);
  huge.writeUInt32BE(1024 * 1024 + 1, 12);
  t.equal(play([FIXED, huge]).end, 'drop');
  const many = Array.from({ length: 64 }, () => option(77));
  t.equal(play([FIXED, ...many]).end, undefined);
  t.equal(play([FIXED, ...many, option(77)]).end, 'drop');
  t.end();
});

t.test(
  'H2, H3, H4: flags not offered, a wrong magic, and haggling without fixed newstyle end the session',
  (t) => {
    t.equal(play([clientFlags(4)]).end, 'drop');
    t.equal(play([clientFlags(0x80000001)]).end, 'drop');
    const wrong = option(NBD_OPT.LIST);
    wrong.writeUInt8(0, 0);
    t.equal(play([FIXED, wrong]).end, 'drop');
    t.equal(play([clientFlags(0), option(NBD_OPT.LIST)]).end, 'drop');
    t.end();
  },
);

t.test('H10: shutting down, options are answered SHUTDOWN and ABORT still works', (t) => {
  const machine = new Handshake(RULES);
  machine.shutDown();
  const result = play([FIXED, option(NBD_OPT.LIST), option(77), option(NBD_OPT.ABORT)], machine);
  t.strictSame(replyTypes(result.sent), [NBD_REP.ERR_SHUTDOWN, NBD_REP.ERR_SHUTDOWN, NBD_REP.ACK]);
  const old = new Handshake(RULES);
  old.shutDown();
  t.equal(play([FIXED, option(NBD_OPT.EXPORT_NAME)], old).end, 'drop');
  t.end();
});

t.test('H7: what arrives during a look-up is kept, up to a limit', (t) => {
  const machine = new Handshake(RULES);
  machine.receive(FIXED);
  const asked = machine.receive(option(NBD_OPT.GO, exportRequest('vm')));
  t.equal(asked[0]?.kind, 'look-up');
  t.ok(machine.isLookingUp);
  t.strictSame(machine.receive(Buffer.from('0102', 'hex')), []);
  const actions = machine.resume(answer({ kind: 'open', name: 'vm' }));
  t.match(actions.at(-1), { kind: 'transmit', rest: Buffer.from('0102', 'hex') });
  const flooded = new Handshake(RULES);
  flooded.receive(Buffer.concat([FIXED, option(NBD_OPT.LIST)]));
  t.equal(flooded.receive(Buffer.alloc(1024 * 1024 + 1))[0]?.kind, 'drop');
  t.strictSame(flooded.resume({ kind: 'list', exports: [] }), [], 'a late answer changes nothing');
  t.end();
});

t.test('the same session in any pieces gives the same answers', (t) => {
  const session = Buffer.concat([
    FIXED,
    option(NBD_OPT.STRUCTURED_REPLY),
    option(99, Buffer.alloc(300, 1)),
    option(NBD_OPT.LIST),
    option(NBD_OPT.INFO, exportRequest('nix', [1, 2, 3])),
    option(NBD_OPT.GO, exportRequest('vm', [3])),
    Buffer.from('requests begin here'),
  ]);
  const whole = play([session]);
  t.equal(whole.end, 'transmit');
  for (let at = 1; at < session.length; at++)
    if (
      JSON.stringify(play([session.subarray(0, at), session.subarray(at)])) !==
      JSON.stringify(whole)
    )
      t.fail(`cut at ${at} differs`);
  t.strictSame(play(Array.from(session, (byte) => Buffer.from([byte]))), whole, 'byte by byte');
  for (let at = 0; at < session.length - 19; at++) {
    const cut = play([session.subarray(0, at)]);
    if (cut.end !== undefined || !whole.sent.startsWith(cut.sent)) t.fail(`truncated at ${at}`);
  }
  t.end();
});

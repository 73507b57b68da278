import t from 'tap';
import {
  decodeAnswer,
  decodeAttributes,
  decodeGeneric,
  decodeMessages,
  encodeNested,
  encodeRequest,
  encodeText,
  encodeU32,
  type NetlinkMessage,
} from './netlink-message.js';
import {
  decodeFamily,
  decodeIndex,
  decodeStatus,
  encodeConnect,
  encodeGetFamily,
  encodeIndex,
  encodeReconfigure,
} from './netlink-nbd.js';

const hex = (bytes: Buffer): string => bytes.toString('hex');
const bytes = (text: string): Buffer => Buffer.from(text.replaceAll(/\s/g, ''), 'hex');
const first = (text: string): NetlinkMessage => {
  const [message] = decodeMessages(bytes(text));
  if (message === undefined) throw new Error('there is no message');
  return message;
};

t.test('a request is two headers and its attributes, padded to four bytes', (t) => {
  const request = encodeRequest({
    family: 16,
    sequence: 7,
    command: 3,
    version: 2,
    attributes: encodeGetFamily('nbd'),
  });
  t.equal(
    hex(request),
    hex(bytes(`1c000000 1000 0500 07000000 00000000 03 02 0000 0800 0200 6e626400`)),
  );
  t.equal(
    hex(encodeText(2, 'nbd2')),
    '090002006e62643200000000',
    'the length is that without padding',
  );
  t.end();
});

t.test('CONNECT carries what the device is made of, the sockets as nested lists', (t) => {
  const attributes = encodeConnect({
    index: 3,
    sizeBytes: 2 ** 40 + 512,
    blockBytes: 512,
    serverFlags: 0x16d,
    timeoutSeconds: 0,
    deadTimeoutSeconds: 60,
    identifier: 'nbd://h/x',
    descriptors: [20, 21],
  });
  t.equal(
    hex(Buffer.concat(attributes)),
    hex(
      bytes(`
      0800 0100 03000000
      0c00 0200 0002000000010000
      0c00 0300 0002000000000000
      0c00 0500 6d01000000000000
      0c00 0400 0000000000000000
      0c00 0800 3c00000000000000
      0c00 0600 0000000000000000
      0e00 0a00 6e62643a2f2f682f7800 0000
      1c00 0780 0c00 0180 0800 0100 14000000 0c00 0180 0800 0100 15000000`),
    ),
  );
  t.end();
});

t.test('RECONFIGURE names the device, its identifier and the new sockets', (t) => {
  t.equal(
    hex(Buffer.concat(encodeReconfigure(0, 'a', [9]))),
    hex(bytes(`0800 0100 00000000 0600 0a00 6100 0000 1000 0780 0c00 0180 0800 0100 09000000`)),
  );
  t.equal(hex(Buffer.concat(encodeIndex(2))), '0800010002000000');
  t.end();
});

t.test('the answers of the kernel are understood', (t) => {
  const linkDead = `1c000000 1d00 0000 00000000 00000000 04 00 0000 0800 0100 05000000`;
  t.same(decodeIndex(first(linkDead)), { command: 4, index: 5 });
  const status = first(`
    40000000 1d00 0000 02000000 01000000 05 00 0000
    2c00 0900
      1400 0180 0800 0100 00000000 0500 0200 01 000000
      1400 0180 0800 0100 01000000 0500 0200 00 000000`);
  t.same(decodeStatus(status), [
    { index: 0, connected: true },
    { index: 1, connected: false },
  ]);
  const family = decodeFamily(
    first(`
    48000000 1000 0000 01000000 01000000 01 02 0000
    0800 0200 6e626400 0600 0100 1d00 0000
    2400 0700
      2000 0100 0800 0200 0b000000 1100 0100 6e62645f6d635f67726f757000 000000`),
  );
  t.equal(family.id, 29);
  t.equal(family.groups.get('nbd_mc_group'), 11);
  t.end();
});

t.test(
  'the answer that ends a request has an error number, and words if the kernel has some',
  (t) => {
    const ok = first(
      `24000000 0200 0001 02000000 01000000 00000000 1c000000 1d00 0500 02000000 00000000`,
    );
    t.same(decodeAnswer(ok), { errno: 0, text: null });
    const busy = first(`
    30000000 0200 0003 02000000 01000000 f0ffffff 1c000000 1d00 0500 02000000 00000000
    0900 0100 6275737900 000000`);
    t.same(decodeAnswer(busy), { errno: 16, text: 'busy' });
    t.end();
  },
);

t.test('what is cut off or lies about its length is refused, wherever it is cut', (t) => {
  const whole = encodeRequest({
    family: 29,
    sequence: 1,
    command: 1,
    version: 1,
    attributes: [encodeU32(1, 2), encodeNested(7, [encodeU32(1, 9)])],
  });
  for (let end = 1; end < whole.length; end += 1)
    t.throws(() => decodeMessages(whole.subarray(0, end)), { code: 'E_FORMAT' }, `${end} bytes`);
  const [message] = decodeMessages(Buffer.concat([whole, whole]));
  t.equal(decodeMessages(Buffer.concat([whole, whole])).length, 2);
  if (message === undefined) return void t.fail('there is a message');
  const { payload } = message;
  for (let end = 1; end < payload.length; end += 1) {
    if (end === 4 || end === 12) continue; // ends between attributes
    const cut = { ...message, payload: payload.subarray(0, end) };
    t.throws(() => decodeGeneric(cut), { code: 'E_FORMAT' }, `${end} bytes of payload`);
  }
  t.throws(() => decodeAttributes(bytes('0300 0100')), { code: 'E_FORMAT' }, 'shorter than itself');
  t.throws(() => decodeMessages(bytes('00000000'.repeat(4))), { code: 'E_FORMAT' }, 'no length');
  t.throws(() => decodeIndex({ ...message, payload: payload.subarray(0, 4) }), {
    code: 'E_FORMAT',
  });
  t.end();
});

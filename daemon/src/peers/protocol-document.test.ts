/**
 * The examples in section 10 of PROTOCOL.md are the bytes that this code makes; see `protocol-document.test.ts` of core.
 * `STORE_WRITE_EXAMPLES=1` writes the examples into the document anew.
 */

import { readFileSync, writeFileSync } from 'node:fs';
import { HEADER_BYTES, writeU64 } from '@store/core';
import t from 'tap';
import { PeerEncoder } from './peer-codec.js';
import { encodeMeet, encodeWelcome } from './peer-greeting.js';
import { channelOf, PEER } from './peer-ops.js';
import { sampleMessages } from './testing/sample-messages.js';
import type { PeerMessage } from '../replication/peer-message.js';

const DOCUMENT = new URL('../../../core/PROTOCOL.md', import.meta.url);

function examples(): ReadonlyMap<string, Buffer> {
  const counted = (from: number): string =>
    Buffer.from(Array.from({ length: 16 }, (_, index) => from + index)).toString('hex');
  const found = new Map<string, Buffer>();
  const [diskId, startId] = [counted(0x40), counted(0x50)];
  found.set(
    'meet',
    encodeMeet({
      ...{ versionMin: 1, versionMax: 1, channel: 'control', daemon: 1, wanted: 2 },
      ...{ clusterId: counted(0x30), diskId, startId },
      ...{ wantedStart: counted(0x60), linkId: counted(0x70) },
    }),
  );
  found.set('meet-answer', encodeWelcome({ version: 1, daemon: 2, diskId, startId }));
  const pulse = Buffer.alloc(9);
  writeU64(pulse, 0, 4_194_816);
  found.set(
    'pulse',
    encoded((encoder) => encoder.addRaw(PEER.pulse, pulse, [])),
  );
  for (const message of sampleMessages()) {
    const name = nameOf(message);
    // The first of its kind.
    if (!found.has(name))
      found.set(
        name,
        encoded((encoder) => encoder.add(message)),
      );
  }
  return found;
}

function nameOf(message: PeerMessage): string {
  const name = message.type.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
  return message.type === 'prepare' ? `${name}-${message.change.op}` : name;
}

/** Of frames with blocks, header and body. */
function encoded(add: (encoder: PeerEncoder) => void): Buffer {
  const encoder = new PeerEncoder();
  add(encoder);
  const bytes = Buffer.concat(encoder.take());
  return bytes.length < 4096 ? bytes : bytes.subarray(0, HEADER_BYTES + bytes.readUInt32LE(32));
}

/** As `hexdump -C` shows bytes. */
function dump(bytes: Buffer): string {
  const lines: string[] = [];
  for (let at = 0; at < bytes.length; at += 16) {
    const line = bytes.subarray(at, at + 16);
    const hex = line.toString('hex').replace(/(..)/g, '$1 ').padEnd(48);
    const text = line.toString('latin1').replace(/[^ -_a-~]/g, '.'); // nor the character that ends code
    lines.push(`${at.toString(16).padStart(4, '0')}  ${hex} |${text}|`);
  }
  return lines.join('\n');
}

const BLOCK = /```hex peer\/([a-z-]+)\n([^`]*)```/g;

t.test('every example of section 10 is what the code makes', async (t) => {
  const made = examples();
  let text = readFileSync(DOCUMENT, 'utf8');
  if (process.env['STORE_WRITE_EXAMPLES'] === '1') {
    text = text.replace(BLOCK, (whole, name: string) => {
      const bytes = made.get(name);
      return bytes === undefined ? whole : `\`\`\`hex peer/${name}\n${dump(bytes)}\n\`\`\``;
    });
    writeFileSync(DOCUMENT, text);
  }
  const shown = new Map(
    [...text.matchAll(BLOCK)].map(([, name = '', bytes = '']) => [name, bytes]),
  );
  for (const [name, bytes] of made) t.equal(shown.get(name), `${dump(bytes)}\n`, name);
  t.strictSame([...shown.keys()].sort(), [...made.keys()].sort(), 'no example is unknown');
});

t.test('every operation is in section 10 with its number and its connection', async (t) => {
  const text = readFileSync(DOCUMENT, 'utf8');
  for (const [type, number] of Object.entries(PEER)) {
    const constant = type.replace(/[A-Z]/g, '_$&').toUpperCase();
    const over = type === 'meet' ? 'both' : type === 'pulse' ? 'control' : channelOf(type as never); // the others are messages
    t.match(text, new RegExp(`\\| *${number} *\\| *${constant} *\\| *${over} *\\|`), type);
  }
});

/**
 * Every 512-byte sector a tagged writer writes says where it belongs and which write it is, and carries a
 * checksum over all of it. So a sector that is found in the wrong place, or half of one write and half of
 * another, names itself.
 */
import { crc32c } from '@store/core';

export const SECTOR_BYTES = 512;

const MAGIC = 0x53544147; // "STAG"
const AT_MAGIC = 0; //     4
const AT_POSITION = 4; //  6  number of the sector on the device
const AT_VERSION = 10; //  6  number of the write
const AT_FILLER = 16; //      follows from the version
const AT_CRC = 508; //     4  CRC-32C of all before

/** Fills one sector. */
export function writeSectorTag(sector: Buffer, position: number, version: number): void {
  sector.writeUInt32LE(MAGIC, AT_MAGIC);
  sector.writeUIntLE(position, AT_POSITION, 6);
  sector.writeUIntLE(version, AT_VERSION, 6);
  sector.fill((version * 131 + position) & 0xff, AT_FILLER, AT_CRC);
  sector.writeUInt32LE(crc32c(sector.subarray(0, AT_CRC)), AT_CRC);
}

/** Says in words what a sector holds. */
export function describeSector(sector: Buffer): string {
  if (sector.every((byte) => byte === 0)) return 'zeros';
  const position = sector.readUIntLE(AT_POSITION, 6);
  const version = sector.readUIntLE(AT_VERSION, 6);
  if (sector.readUInt32LE(AT_MAGIC) !== MAGIC)
    return `no tag (${sector.subarray(0, 16).toString('hex')})`;
  const whole = sector.readUInt32LE(AT_CRC) === crc32c(sector.subarray(0, AT_CRC));
  return `sector ${position} version ${version}${whole ? '' : ' (overwritten in part, or damaged)'}`;
}

/** `--datagram-bytes`, which servers and clients of a daemon take. */
import {
  DATAGRAM_BYTES_DEFAULT,
  DATAGRAM_BYTES_MAX,
  DATAGRAM_BYTES_MIN,
  numberSetting,
  StoreError,
  type Setting,
} from '@store/core';

export const datagramSetting: Setting<number> = {
  name: 'datagram-bytes',
  fallback: DATAGRAM_BYTES_DEFAULT,
  parse: (text) => {
    const range = { min: 0, max: DATAGRAM_BYTES_MAX, fallback: 0 };
    const bytes = numberSetting('datagram-bytes', range).parse(text);
    if (bytes > 0 && bytes < DATAGRAM_BYTES_MIN)
      throw new StoreError(
        'E_INVALID',
        `'${text}' is neither 0 nor a number from ${DATAGRAM_BYTES_MIN} to ${DATAGRAM_BYTES_MAX}`,
      );
    return bytes;
  },
};

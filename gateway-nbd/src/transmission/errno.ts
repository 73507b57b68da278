import type { StoreError } from '@store/core';
import { NBD_ERROR, type NbdError } from '../protocol/constants.js';

/** The only place where our errors become numbers of the protocol. */
export function errnoFor(error: StoreError): NbdError {
  switch (error.code) {
    case 'E_NO_SPACE':
      return NBD_ERROR.ENOSPC;
    case 'E_READ_ONLY':
    case 'E_DENIED':
      return NBD_ERROR.EPERM;
    case 'E_CLOSED':
    // Another server has the image: this one does nothing with it any more.
    case 'E_FENCED':
    case 'E_SEALED':
      return NBD_ERROR.ESHUTDOWN;
    default:
      return NBD_ERROR.EIO;
  }
}

import type { StatusRun } from '../backend.js';
import type { HeaderKind } from '../handshake/negotiated.js';
import { chunkReplies } from './chunk-replies.js';
import type { Reply } from '@store/core';
import type { ReplyOutbox } from '@store/core';
import type { Request } from './request.js';
import { simpleReplies } from './simple-replies.js';

/** A piece of the answer to a READ: data that was read into `reply`, or zeros. */
export type ReadPiece =
  | { readonly kind: 'data'; readonly offset: number; readonly reply: Reply }
  | { readonly kind: 'hole'; readonly offset: number; readonly bytes: number };

/** The extents of one metadata context. */
export interface ContextStatus {
  readonly id: number;
  readonly runs: readonly StatusRun[];
}

/**
 * How answers look on the wire. Each function writes one whole answer and queues it; one connection uses one format
 * from its first answer to its last.
 */
export interface ReplyFormat {
  /** Room to leave in front of the data of a READ. */
  readonly dataRoom: number;
  /** The answer to a READ may come in chunks, and zeros be said instead of sent. */
  readonly hasChunks: boolean;
  /** Done, with nothing to tell. */
  success(outbox: ReplyOutbox, request: Request): void;
  /** Failed. @param message - A sentence for people, where the format can carry one. */
  failure(outbox: ReplyOutbox, request: Request, error: number, message: string): void;
  /** The data of a whole READ, which lies in `reply` behind `dataRoom`. */
  data(outbox: ReplyOutbox, request: Request, reply: Reply): void;
  /** One of the pieces that cover a READ. Only where `hasChunks`; nothing follows the last. */
  piece(outbox: ReplyOutbox, request: Request, piece: ReadPiece, isLast: boolean): void;
  /** The answer to BLOCK_STATUS. Only where contexts can be selected. */
  status(outbox: ReplyOutbox, request: Request, contexts: readonly ContextStatus[]): void;
}

export function replyFormat(headers: HeaderKind): ReplyFormat {
  return headers === 'simple' ? simpleReplies : chunkReplies(headers === 'extended');
}

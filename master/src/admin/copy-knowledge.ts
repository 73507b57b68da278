/** What a copy of a group holds and whose images that is, as the daemons say that are there. */
import {
  CONTROL,
  decodeCopyContents,
  decodeLayerNames,
  encodeCopyRequest,
  encodeLayerNamesRequest,
  StoreError,
  type ControlMessage,
  type CopyContents,
} from '@store/core';
import type { Master } from '../server/master.js';

/** Of a copy: which, and where. */
export interface CopyPlace {
  /** Its id. */
  readonly pool: number;
  readonly group: number;
  readonly daemon: number;
}

export interface CopyKnowledge extends CopyContents {
  /** Of images, by the ids of their layers: those whose headers lie at daemons that have answered. */
  readonly names: ReadonlyMap<string, string>;
}

/** @returns why not, if its daemon does not say */
export async function lookAtCopy(
  master: Pick<Master, 'askDaemons'>,
  { pool, group, daemon }: CopyPlace,
): Promise<CopyKnowledge | StoreError> {
  const request = encodeCopyRequest({ pool, group });
  const answer = (await master.askDaemons(CONTROL.copy, request, (id) => id === daemon)).get(
    daemon,
  );
  if (answer === undefined) return new StoreError('E_UNREACHABLE', 'it is not connected');
  if (answer instanceof StoreError) return answer;
  try {
    const contents = decodeCopyContents(answer.fields);
    return { ...contents, names: await namesOf(master, pool, contents) };
  } catch (error) {
    if (error instanceof StoreError) return error;
    throw error;
  }
}

async function namesOf(
  master: Pick<Master, 'askDaemons'>,
  pool: number,
  { layers }: CopyContents,
): Promise<ReadonlyMap<string, string>> {
  const request = encodeLayerNamesRequest({ pool, layers: layers.map(({ layer }) => layer) });
  const answers = await master.askDaemons(CONTROL.layerNames, request);
  // A daemon that does not answer knows nothing; its headers have copies elsewhere.
  const said = [...answers.values()].filter(
    (answer): answer is ControlMessage => !(answer instanceof StoreError),
  );
  return new Map(said.flatMap(({ fields }) => [...decodeLayerNames(fields)]));
}

/** What a copy of a group holds, whose images that is and whom its daemon reaches, as the daemons say that are there. */
import {
  checkImageName,
  CONTROL,
  decodeCopyContents,
  decodeLayerNames,
  decodeLinks,
  encodeCopyRequest,
  encodeLayerNamesRequest,
  encodeLinks,
  StoreError,
  type ControlMessage,
  type CopyContents,
  type JsonFields,
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

/** For both questions together: who asked waits. */
const LOOK_MS = 4000;
const COPY_MS = 3000;
const LINKS_MS = 2000;

/** @returns why not, if its daemon does not say */
export async function lookAtCopy(
  master: Pick<Master, 'askDaemons' | 'env'>,
  { pool, group, daemon }: CopyPlace,
): Promise<CopyKnowledge | StoreError> {
  const { clock } = master.env;
  const deadline = clock.now() + LOOK_MS;
  const answers = await master.askDaemons(CONTROL.copy, encodeCopyRequest({ pool, group }), {
    isMeant: (id) => id === daemon,
    deadlineMs: COPY_MS,
  });
  const contents = decoded(answers.get(daemon), decodeCopyContents);
  if (contents instanceof StoreError) return contents;
  const layers = contents.layers.map(({ layer }) => layer);
  const said = await master.askDaemons(
    CONTROL.layerNames,
    encodeLayerNamesRequest({ pool, layers }),
    { deadlineMs: Math.max(1, deadline - clock.now()) },
  );
  // A daemon that does not answer knows nothing; its headers have copies elsewhere.
  const found = [...said.values()]
    .map((answer) => decoded(answer, decodeLayerNames))
    .flatMap((names) => (names instanceof StoreError ? [] : [...names]))
    .filter(([layer, name]) => layers.includes(layer) && isImageName(name));
  return { ...contents, names: new Map(found) };
}

/** Of these daemons, those that one of them has a link with. @returns why not, if it does not say */
export async function lookAtLinks(
  master: Pick<Master, 'askDaemons'>,
  daemon: number,
  others: readonly number[],
): Promise<readonly number[] | StoreError> {
  const answers = await master.askDaemons(CONTROL.links, encodeLinks(others), {
    isMeant: (id) => id === daemon,
    deadlineMs: LINKS_MS,
  });
  return decoded(answers.get(daemon), decodeLinks);
}

function decoded<T>(
  answer: ControlMessage | StoreError | undefined,
  decode: (fields: JsonFields) => T,
): T | StoreError {
  if (answer === undefined) return new StoreError('E_UNREACHABLE', 'it is not connected');
  if (answer instanceof StoreError) return answer;
  try {
    return decode(answer.fields);
  } catch (error) {
    if (error instanceof StoreError) return error;
    throw error;
  }
}

function isImageName(name: string): boolean {
  try {
    checkImageName(name);
    return true;
  } catch (error) {
    if (error instanceof StoreError) return false;
    throw error;
  }
}

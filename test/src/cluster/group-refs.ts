/** Objects of the groups that a test wants to look at. */
import { groupOf, OBJECT_KIND, ObjectRef, type MapPool } from '@store/core';

/** `count` image data objects of a group. */
export function refsIn(pool: Pick<MapPool, 'groups'>, group: number, count = 1): ObjectRef[] {
  const found: ObjectRef[] = [];
  for (let index = 0; found.length < count; index += 1) {
    const ref = new ObjectRef(OBJECT_KIND.imageData, `layer_${index}`, `family_${index}`);
    if (groupOf(pool, ref.hash) === group) found.push(ref);
  }
  return found;
}

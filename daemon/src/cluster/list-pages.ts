import { LIST_PAGE_MAX, type ListOptions, type ListPage, type Timers } from '@store/core';

/** Others get their turn between two pages. */
const PAUSE_MS = 5;

/** All that `list` has, page by page and without hurry. */
export async function* pagesOf(
  list: (options: ListOptions) => Promise<ListPage>,
  timers: Pick<Timers, 'sleep'>,
): AsyncGenerator<ListPage['entries']> {
  for (let cursor: Buffer | undefined; ;) {
    const from = cursor === undefined ? {} : { cursor };
    const page = await list({ limit: LIST_PAGE_MAX, ...from });
    yield page.entries;
    ({ cursor } = page);
    if (cursor === undefined) return;
    await timers.sleep(PAUSE_MS);
  }
}

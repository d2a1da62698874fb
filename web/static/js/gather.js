// Rows of a job, from as many requests as that takes: the server searches for a tenth of a second at a time.

import { COUNTING_MS, request, sameServer } from "./api.js";

/**
 * The first `most` rows from `address` on: {items, next, reached}. `next` is the address of those after them, null at the
 * end; `reached` is how many rows of the job were searched, which goes on until it is `upto`. `onSearching(reached, found)`
 * hears of every answer that is not the last. `signal` ends it with an error, `stop` with what has been found so far.
 */
export async function gather(address, most, { signal, stop, upto = Infinity, onSearching }) {
  const items = [];
  let next = address;
  let reached = 0;
  while (next && items.length < most && reached < upto && !stop.aborted) {
    const { data } = await request(withLimit(next, most - items.length), { signal, limit: COUNTING_MS });
    items.push(...data.items);
    reached = data.searched.to;
    next = data.next ? sameServer(data.next) : null;
    if (next && items.length < most) {
      onSearching(reached, items.length);
    }
  }
  return { items, next: next && withLimit(next, most), reached };
}

function withLimit(address, limit) {
  const url = new URL(address, window.location.href);
  url.searchParams.set("limit", String(limit));
  return url.pathname + url.search;
}

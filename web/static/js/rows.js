// The rows of a job, a page at a time.

import { makeAgain } from "./again.js";
import { api, request, sameServer } from "./api.js";
import { button, byId, el } from "./dom.js";
import { doneRows, isOver } from "./jobs.js";
import { makeTextCells, rowsTable } from "./table.js";
import { topicName } from "./topics.js";
import { t } from "./words.js";

const PAGE_ROWS = 50;
const REFRESH_MS = 2500;
const NO_NAMES = new Map();
const FINAL = new Set(["succeeded", "failed", "cancelled"]);

/** Takes over the elements of the page that show rows of the job at `address`; follow() tells how it is getting on. */
export function makeRows(address, choice) {
  const cells = makeTextCells(address);
  const first = () => `${address}/results?${new URLSearchParams([["limit", String(PAGE_ROWS)], ...choice.filterParams(), ...choice.orderParams(), ...choice.thresholdParams()])}`;
  let pages = [first()]; // Addresses of the pages up to the one after that which is shown.
  let at = 0;
  let shown = null;
  let shownAt = 0;
  let loading = null; // Ends the requests for the page that is on its way.
  let tookMs = 0;
  let total = 0;
  let stale = false;
  let model = null; // The one that computes the job, as soon as it is known.
  let topics = null; // {of, names}: topics by id as that model names them; before there is one, as the active one does.
  let shownNames = NO_NAMES;
  let failed = false;
  const again = makeAgain(byId("rows-notice"));

  async function load(index, { quietly = false } = {}) {
    if (quietly && loading) {
      return;
    }
    loading?.abort();
    again.stop();
    const mine = new AbortController();
    loading = mine;
    const began = performance.now();
    try {
      if (topics?.of !== model) {
        topics = await topicNames(model);
      }
      const { items, next } = await gather(pages[index], mine.signal);
      pages.length = index + 1;
      if (next) {
        pages.push(next);
      }
      at = index;
      failed = false;
      byId("rows-notice").replaceChildren();
      show(items, quietly);
    } catch (error) {
      if (mine.signal.aborted) {
        return;
      }
      failed = true;
      if (!quietly) {
        again.show(error, () => load(index));
      }
    }
    tookMs = performance.now() - began;
    shownAt = performance.now();
    loading = null;
  }

  /** A whole page of rows. The server searches for a tenth of a second at a time, so this may take many requests. */
  async function gather(address, signal) {
    const items = [];
    let next = address;
    const stop = new AbortController();
    while (next && items.length < PAGE_ROWS && !stop.signal.aborted) {
      const { data } = await request(next, { signal });
      items.push(...data.items);
      next = data.next ? withLimit(sameServer(data.next), PAGE_ROWS - items.length || PAGE_ROWS) : null;
      if (next && items.length < PAGE_ROWS) {
        const words = t("rows.searching", { n: data.searched.to, total, found: items.length });
        byId("rows-notice").replaceChildren(el("p", { class: "searching" }, words, " ", button(t("rows.stop"), () => stop.abort())));
      }
    }
    return { items, next: next && withLimit(next, PAGE_ROWS) };
  }

  function show(items, quietly) {
    const names = topics?.names ?? NO_NAMES;
    if (shown !== null && names === shownNames && JSON.stringify(items) === JSON.stringify(shown)) {
      return;
    }
    shown = items;
    shownNames = names;
    keepHeight();
    const focused = focusIn(byId("table"));
    const cellOf = cells.of(items, names);
    byId("table").replaceChildren(items.length > 0 ? rowsTable(items, names, { choice, cellOf }) : el("p", { class: "nothing" }, t(choice.isFiltered() ? "rows.none_found" : "rows.nothing")));
    focused?.()?.focus({ preventScroll: true });
    byId("pager-words").textContent = "";
    const single = at === 0 && pages.length === 1;
    byId("pager").hidden = single;
    if (single && !choice.isFiltered()) {
      byId("rows").style.minHeight = ""; // These are all rows: nothing longer stood here before.
    }
    const focusedPager = document.activeElement?.closest("#pager");
    byId("earlier").disabled = at === 0;
    byId("later").disabled = pages.length <= at + 1;
    if (focusedPager) {
      // At either end the button that led there cannot be pressed any more, and the other can.
      (document.activeElement.disabled === false ? document.activeElement : byId(at === 0 ? "later" : "earlier")).focus({ preventScroll: true });
    }
    if (items.length > 0) {
      const range = { from: items[0].row, to: items[items.length - 1].row };
      byId("pager-words").textContent = choice.order() ? t("rows.page", { n: at + 1 }) : t("rows.range", range);
    }
    if (!quietly && at > 0) {
      byId("rows").scrollIntoView({ block: "start" });
    }
  }

  /** However few rows come next, what is below them does not come up to where somebody looks at their beginning. */
  function keepHeight() {
    byId("rows").style.minHeight = `${Math.min(byId("rows").getBoundingClientRect().height, window.innerHeight)}px`;
  }

  byId("earlier").addEventListener("click", () => at > 0 && load(at - 1));
  byId("later").addEventListener("click", () => pages.length > at + 1 && load(at + 1));

  choice.onSettle(() => {
    pages = [first()];
    at = 0;
    if (shown !== null || failed) {
      load(0);
    }
  });

  return {
    /** Load the first page once, and the shown one anew as long as rows on it have no result yet. */
    follow(job, before) {
      total = job.rows.total;
      model = job.model;
      const news = before === null || doneRows(job) !== doneRows(before) || job.status !== before.status;
      const waiting = failed || shown === null || topics?.of !== model || shown.some((row) => !FINAL.has(row.status)) || shown.length < PAGE_ROWS;
      const due = isOver(job) || performance.now() - shownAt > Math.max(REFRESH_MS, 5 * tookMs);
      stale ||= news; // News that came too soon after the last look is not forgotten.
      if (shown === null || (stale && waiting && due)) {
        stale = false;
        load(at, { quietly: shown !== null });
      }
    },
  };
}

/** Finds, in a table made anew, what had the focus before, or what came in its place; nothing if it was elsewhere. */
function focusIn(place) {
  const had = document.activeElement;
  if (!place.contains(had)) {
    return null;
  }
  const [name, value] = had.dataset.order ? ["order", had.dataset.order] : ["row", had.closest("details")?.dataset.row];
  const same = (element) => element.dataset[name] === value;
  const wanted = { order: "[data-order]", row: "details" }[name];
  const anew = () => [...place.querySelectorAll(wanted)].filter(same).map((found) => found.querySelector("summary") ?? found)[0];
  return () => (place.contains(had) ? had : anew());
}

function withLimit(address, limit) {
  const url = new URL(address, window.location.href);
  url.searchParams.set("limit", String(limit));
  return url.pathname + url.search;
}

/** {of, names}. Before the first worker has registered a model there are none (404), and no results either. */
async function topicNames(model) {
  const address = model === null ? "/topics" : `/models/${encodeURIComponent(model)}`;
  const { status, data } = await request(api(address), { also: [404] });
  if (status === 404) {
    return null;
  }
  const topics = data.topics ?? data.items;
  return { of: model, names: new Map(topics.map((topic) => [topic.id, topicName(topic)])) };
}

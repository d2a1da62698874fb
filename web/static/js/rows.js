// The rows of a job, a page at a time.

import { makeAgain } from "./again.js";
import { api, request } from "./api.js";
import { button, byId, el, say } from "./dom.js";
import { gather } from "./gather.js";
import { doneRows, isOver } from "./jobs.js";
import { makeTextCells, rowsTable } from "./table.js";
import { topicName } from "./topics.js";
import { t } from "./words.js";

const PAGE_ROWS = 50;
const REFRESH_MS = 2500;
const NO_TOPICS = { of: undefined, ids: [], names: new Map(), others: new Set() };
const FINAL = new Set(["succeeded", "failed", "cancelled"]);

/**
 * Takes over the elements of the page that show rows of the job at `address`; follow() tells how it is getting on.
 * `onStop` hears that somebody has waited long enough for a search, `onShown` that rows have come.
 */
export function makeRows(address, choice, { onStop, onShown }) {
  const cells = makeTextCells(address);
  const first = () => `${address}/results?${new URLSearchParams([...choice.filterParams(), ...choice.orderParams(), ...choice.thresholdParams()])}`;
  let pages = [first()]; // Addresses of the pages up to the one after that which is shown.
  let at = 0;
  let shown = null;
  let shownAt = 0;
  let reach = Infinity; // So far the page was searched for before somebody stopped it.
  let loading = null; // Ends the requests for the page that is on its way.
  let tookMs = 0;
  let job = null;
  let stale = false; // There was news since what is shown was asked for.
  let topics = NO_TOPICS; // Of the model that computes the job as soon as it is known, before that of the active one.
  let shownNames = null;
  let shownAs = "";
  let failed = false;
  const again = makeAgain(byId("rows-notice"));

  async function load(index, { quietly = false } = {}) {
    loading?.abort();
    again.stop();
    const mine = new AbortController();
    loading = mine;
    stale = false;
    reach = quietly ? reach : Infinity;
    const stop = new AbortController();
    const began = performance.now();
    try {
      if (topics.of !== job.model) {
        topics = await topicsOf(job.model, mine.signal);
      }
      const onSearching = (searched, found) => !quietly && showSearch(searched, found, stop);
      const { items, next, reached } = await gather(pages[index], PAGE_ROWS, { signal: mine.signal, stop: stop.signal, upto: reach, onSearching });
      await nameOthers(items, mine.signal);
      if (stop.signal.aborted) {
        reach = reached;
      }
      pages.length = index + 1;
      if (next) {
        pages.push(next);
      }
      at = index;
      failed = false;
      byId("rows-notice").replaceChildren();
      show(items, quietly);
      onShown();
    } catch (error) {
      if (mine.signal.aborted) {
        return;
      }
      failed = true;
      stale = true;
      if (!quietly || isOver(job)) {
        again.show(error, () => load(index, { quietly }));
      }
    }
    tookMs = performance.now() - began;
    shownAt = performance.now();
    loading = null;
    if (!failed) {
      look();
    }
  }

  /** Load the first page once, and the shown one anew as long as it may change, and when the job has ended. */
  function look() {
    const changing = choice.isFiltered() || choice.order() !== "" || shown?.some((row) => !FINAL.has(row.status)) || shown?.length < PAGE_ROWS;
    const wanted = shown === null || failed || topics.of !== job.model || changing || isOver(job);
    const due = isOver(job) || (shown === null && !failed) || performance.now() - shownAt > Math.max(REFRESH_MS, 5 * tookMs);
    if (loading === null && stale && wanted && due) {
      load(at, { quietly: shown !== null || failed });
    }
  }

  function showSearch(searched, found, stop) {
    const enough = () => {
      stop.abort();
      onStop();
    };
    const words = t("rows.searching", { n: searched, total: job.rows.total, found });
    byId("rows-notice").replaceChildren(el("p", { class: "searching" }, words, " ", button(t("rows.stop"), enough)));
  }

  /** Rows that another model has computed have topics of their own, which have names as well. */
  async function nameOthers(items, signal) {
    const { of, others, names } = topics;
    const labels = new Set(items.map((row) => row.model).filter((label) => label && label !== of && !others.has(label)));
    for (const label of labels) {
      for (const [id, name] of (await topicsOf(label, signal)).names) {
        names.set(id, names.get(id) ?? name);
      }
      others.add(label);
    }
  }

  function show(items, quietly) {
    const none = reach < Infinity ? "rows.none_so_far" : "rows.none_found";
    const nothing = choice.isFiltered() ? none : "rows.nothing";
    const as = JSON.stringify([items, items.length > 0 || nothing]);
    if (topics.names !== shownNames || as !== shownAs) {
      keepHeight();
      const focused = focusIn(byId("table"));
      const cellOf = cells.of(items, topics.names);
      byId("table").replaceChildren(items.length > 0 ? rowsTable(items, topics, { choice, cellOf }) : el("p", { class: "nothing" }, t(nothing)));
      focused?.()?.focus({ preventScroll: true });
    }
    shown = items;
    shownAs = as;
    shownNames = topics.names;
    showPager();
    if (!quietly && at > 0) {
      byId("rows").scrollIntoView({ block: "start" });
    }
  }

  function showPager() {
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
    const range = { from: shown[0]?.row, to: shown.at(-1)?.row };
    say(byId("pager-words"), shown.length === 0 ? "" : choice.order() ? t("rows.page", { n: at + 1 }) : t("rows.range", range));
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
    if (job !== null) {
      load(0);
    }
  });

  return {
    follow(now, before) {
      job = now;
      stale ||= before === null || doneRows(job) !== doneRows(before) || job.status !== before.status;
      look();
    },
    /** Ask for nothing any more. */
    stop() {
      loading?.abort();
      again.stop();
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

/**
 * The topics of the model of that label, of the active one for none: {of, ids, names, others}. `names` takes those of the
 * models in `others` as well. Before the first worker has registered a model there are none (404), and no results either.
 */
async function topicsOf(label, signal) {
  const address = label === null ? "/topics" : `/models/${encodeURIComponent(label)}`;
  const { status, data } = await request(api(address), { signal, also: [404] });
  if (status === 404) {
    return NO_TOPICS;
  }
  const topics = data.topics ?? data.items;
  const names = new Map(topics.map((topic) => [topic.id, topicName(topic)]));
  return { of: label, ids: [...names.keys()], names, others: new Set() };
}

// The rows of a job, a page at a time: texts that open, a column per topic, failed rows with their reason.

import { makeAgain } from "./again.js";
import { api, request, sameServer } from "./api.js";
import { button, byId, el, icon } from "./dom.js";
import { excerpt, number, percent } from "./format.js";
import { doneRows, isOver } from "./jobs.js";
import { rowProblem } from "./problems.js";
import { topicName } from "./topics.js";
import { t } from "./words.js";

const PAGE_ROWS = 50;
const EXCERPT = 160;
const REFRESH_MS = 2500;
const FINAL = new Set(["succeeded", "failed", "cancelled"]);
const FIELDS = ["doc_text", "image2text", "speech2text"];

/** Takes over the elements of the page that show rows; follow() tells it how the job is getting on. */
export function makeRows(address, choice) {
  const first = () => `${address}?${new URLSearchParams([["limit", String(PAGE_ROWS)], ...choice.filterParams(), ...choice.orderParams(), ...choice.thresholdParams()])}`;
  let pages = [first()]; // Addresses of the pages up to the one after that which is shown.
  let at = 0;
  let shown = null;
  let shownAt = 0;
  let loading = null; // Ends the requests for the page that is on its way.
  let tookMs = 0;
  let total = 0;
  let stale = false;
  let names = null; // Topics by id, as the active model names them.
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
      names ??= await topicNames();
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
    if (shown !== null && JSON.stringify(items) === JSON.stringify(shown)) {
      return;
    }
    const open = new Set([...document.querySelectorAll("#table details[open]")].map((details) => details.dataset.row));
    shown = items;
    const focused = focusIn(byId("table"));
    byId("table").replaceChildren(items.length > 0 ? table(items, names ?? new Map(), open, choice) : el("p", { class: "nothing" }, t(choice.isFiltered() ? "rows.none_found" : "rows.nothing")));
    focused?.()?.focus({ preventScroll: true });
    byId("pager-words").textContent = "";
    const single = at === 0 && pages.length === 1;
    byId("pager").hidden = single;
    byId("earlier").disabled = at === 0;
    byId("later").disabled = pages.length <= at + 1;
    if (items.length > 0) {
      const range = { from: items[0].row, to: items[items.length - 1].row };
      byId("pager-words").textContent = choice.order() ? t("rows.page", { n: at + 1 }) : t("rows.range", range);
    }
    if (!quietly && at > 0) {
      byId("rows").scrollIntoView({ block: "start" });
    }
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
      const news = before === null || doneRows(job) !== doneRows(before) || job.status !== before.status;
      const waiting = failed || shown === null || shown.some((row) => !FINAL.has(row.status)) || shown.length < PAGE_ROWS;
      const due = isOver(job) || performance.now() - shownAt > Math.max(REFRESH_MS, 5 * tookMs);
      stale ||= news; // News that came too soon after the last look is not forgotten.
      if (shown === null || (stale && waiting && due)) {
        stale = false;
        load(at, { quietly: shown !== null });
      }
    },
  };
}

/** Finds, in a table made anew, what had the focus in the one before; nothing when the focus was elsewhere. */
function focusIn(place) {
  const had = document.activeElement;
  if (!place.contains(had)) {
    return null;
  }
  const [name, value] = had.dataset.order ? ["order", had.dataset.order] : ["row", had.closest("details")?.dataset.row];
  const same = (element) => element.dataset[name] === value;
  const wanted = { order: "[data-order]", row: "details" }[name];
  return () => [...place.querySelectorAll(wanted)].filter(same).map((found) => found.querySelector("summary") ?? found)[0];
}

function withLimit(address, limit) {
  const url = new URL(address, window.location.href);
  url.searchParams.set("limit", String(limit));
  return url.pathname + url.search;
}

/** Names by id. Before the first worker has registered a model there are none (404), and no results either. */
async function topicNames() {
  const { status, data } = await request(api("/topics"), { also: [404] });
  return status === 404 ? null : new Map(data.items.map((topic) => [topic.id, topicName(topic)]));
}

function table(items, names, open, choice) {
  // The topics are those of the results, whichever model made them; names are known for the active one's.
  const found = Object.keys(items.find((row) => row.probabilities)?.probabilities ?? {});
  const known = [...names.keys()];
  const topics = found.length > 0 ? [...known.filter((id) => found.includes(id)), ...found.filter((id) => !names.has(id))] : known;
  const heads = [
    el("th", { scope: "col", class: "cell-row" }, t("rows.row")),
    el("th", { scope: "col" }, t("rows.text")),
    topics.map((id) => orderHead(id, names.get(id) ?? id, choice)),
    topics.length === 0 && el("th", { scope: "col" }, t("rows.state")),
  ];
  return el(
    "div",
    { class: "table-scroll", tabindex: "0", role: "region", "aria-label": t("model.table") },
    el(
      "table",
      { class: "table list-table rows-table" },
      el("thead", {}, el("tr", {}, heads)),
      el("tbody", {}, items.map((row) => rowView(row, topics, names, open))),
    ),
  );
}

/** The head of a topic: pressed it sorts by the topic, the most probable rows first, then the least, then not at all. */
function orderHead(id, name, choice) {
  const order = choice.order();
  const [sorted, next] = { [`-${id}`]: ["descending", id], [id]: ["ascending", ""] }[order] ?? [null, `-${id}`];
  return el(
    "th",
    { scope: "col", class: "cell-topic", "aria-sort": sorted },
    el(
      "button",
      { type: "button", class: "order-head", "data-order": id, on: { click: () => choice.setOrder(next) } },
      name,
      sorted && icon(sorted === "ascending" ? "caret-up-fill" : "caret-down-fill"),
    ),
  );
}

function rowView(row, topics, names, open) {
  const cells = row.probabilities
    ? topics.map((id) => topicCell(row, id, names.get(id) ?? id))
    : [el("td", { class: `cell-outcome ${row.status}`, colspan: Math.max(topics.length, 1) }, outcome(row))];
  return el(
    "tr",
    { "data-row": row.row, "data-status": row.status },
    el("td", { class: "cell-row", "data-label": t("rows.row") }, number(row.row)),
    el("td", { class: "cell-text" }, textView(row, open.has(String(row.row)))),
    cells,
  );
}

function topicCell(row, id, name) {
  const assigned = row.assigned.includes(id);
  const probability = row.probabilities[id];
  const cell = el(
    "td",
    { class: `cell-topic${assigned ? " assigned" : ""}`, "data-label": name, "data-topic": id },
    assigned && [icon("check-lg"), el("span", { class: "visually-hidden" }, t("result.is_assigned"))],
    el("span", { class: "share" }, percent(probability)),
  );
  cell.style.setProperty("--share", probability);
  return cell;
}

function outcome(row) {
  if (row.status === "failed") {
    const { error } = row;
    const where = error.column ? ` ${t("rows.column", { name: error.column })}` : "";
    const words = rowProblem(error);
    return [
      icon("exclamation-circle"),
      el("span", {}, `${words}${where}`),
      error.message && error.message !== words && el("span", { class: "hint reason" }, error.message),
    ];
  }
  return row.status === "cancelled"
    ? [icon("slash-circle"), el("span", {}, t("rows.cancelled"))]
    : [icon("hourglass-split"), el("span", {}, t("rows.waiting"))];
}

function textView(row, open) {
  const parts = FIELDS.filter((name) => row[name]).map((name) => [t(`field.${name}`), row[name], "ru"]);
  const others = [
    ...(row.custom_id ? [[t("fact.custom_id"), row.custom_id, null]] : []),
    ...Object.entries(row.columns ?? {}).map(([name, value]) => [name, typeof value === "string" ? value : JSON.stringify(value), null]),
  ];
  if (parts.length === 0 && others.length === 0) {
    return el("span", { class: "hint" }, t("rows.no_text"));
  }
  const first = row.doc_text || parts[0]?.[1] || others.map(([, value]) => value).join(" · ");
  const short = excerpt(first, EXCERPT);
  const lone = parts.length === 1 && others.length === 0 && row.doc_text && short === row.doc_text;
  const marks = row.truncated ? el("span", { class: "tag" }, t("rows.truncated")) : null;
  if (lone) {
    return el("span", { class: "row-text", lang: "ru" }, short, marks);
  }
  const details = el("details", { open, "data-row": row.row }, el("summary", { lang: "ru" }, short || t("rows.no_text"), marks));
  // Whole texts may be long, and most are never opened.
  const fill = () => {
    if (details.open && details.childElementCount === 1) {
      details.append(el("dl", { class: "row-parts" }, [...parts, ...others].map(([name, value, lang]) => [el("dt", {}, name), el("dd", { lang }, value)])));
    }
  };
  details.addEventListener("toggle", fill);
  fill();
  return details;
}

// What was classified so far: texts or files, newest first, a page more at a time.

import { keepInAddress } from "./address.js";
import { makeAgain } from "./again.js";
import { api, page, request, sameServer } from "./api.js";
import { button, byId, el, notice } from "./dom.js";
import { excerpt, moment } from "./format.js";
import { isOver, jobRow, jobsTable, stateBadge } from "./jobs.js";
import { assignedNames } from "./topics.js";
import { t } from "./words.js";

const PAGE_ROWS = 50;
const EXCERPT = 140;
const FIELDS = ["doc_text", "image2text", "speech2text"];

const KINDS = {
  texts: { address: api("/classifications"), table: textsTable, row: textRow, nothing: "history.no_texts", first: "/" },
  files: { address: api("/jobs"), table: jobsTable, row: jobRow, nothing: "history.no_files", first: "/files" },
};
const NAMES = ["q", "status", "since", "until"];
const TYPING_MS = 300;
const kind = KINDS[byId("view").dataset.show];

const again = makeAgain(byId("notice"));
let asking = null; // Ends the requests that an older choice was waiting for.

/** What is asked for, as the interface takes it: days are those of whoever looks, the last one included. */
function params() {
  const found = new URLSearchParams();
  for (const name of NAMES) {
    const value = byId(`history-${name}`).value.trim();
    if (value) {
      found.set(name, name === "since" ? midnight(value, 0) : name === "until" ? midnight(value, 1) : value);
    }
  }
  return found;
}

function midnight(day, later) {
  const [year, month, date] = day.split("-").map(Number);
  return new Date(year, month - 1, date + later).toISOString();
}

/** A page more. The server searches for a tenth of a second at a time, so many requests may be needed for it. */
async function load(address) {
  asking?.abort();
  const mine = new AbortController();
  asking = mine;
  again.stop();
  const fresh = byId("list").querySelector("tbody") === null;
  const items = [];
  let next = address;
  try {
    while (next && items.length < PAGE_ROWS) {
      const { data } = await request(next, { signal: mine.signal });
      items.push(...data.items);
      next = data.next ? sameServer(data.next) : null;
      if (next && items.length < PAGE_ROWS) {
        byId("notice").replaceChildren(el("p", { class: "hint" }, t("history.searching", { found: items.length })));
      }
    }
    add(items, fresh);
    byId("notice").replaceChildren();
    if (next) {
      const more = button(t("history.more"), () => load(next));
      more.id = "more";
      byId("notice").replaceChildren(more);
    }
  } catch (error) {
    if (!mine.signal.aborted) {
      again.show(error, () => load(address));
    }
  }
}

function add(items, fresh) {
  if (!fresh) {
    const rows = items.map(kind.row);
    byId("list").querySelector("tbody").append(...rows);
    rows[0]?.querySelector("a")?.focus();
  } else if (items.length > 0) {
    byId("list").replaceChildren(kind.table(items));
  } else if (params().size > 0) {
    byId("list").replaceChildren(notice("info", t("history.none_found"), [t("history.none_found_words")], [button(t("history.reset"), reset)]));
  } else {
    const start = el("a", { class: "btn btn-sm btn-primary", href: page(kind.first) }, t(`${kind.nothing}_start`));
    byId("list").replaceChildren(notice("info", t(kind.nothing), [], [start]));
  }
}

/** Begin anew with what the form says, and let the address and the downloads say the same. */
function begin() {
  const asked = params();
  keepInAddress(NAMES, NAMES.map((name) => [name, byId(`history-${name}`).value.trim()]).filter(([, value]) => value));
  for (const link of byId("exports").querySelectorAll("[data-format]")) {
    link.href = `${kind.address}.${link.dataset.format}${asked.size > 0 ? `?${asked}` : ""}`;
  }
  byId("list").replaceChildren();
  asked.set("limit", String(PAGE_ROWS));
  load(`${kind.address}?${asked}`);
}

function reset() {
  for (const name of NAMES) {
    byId(`history-${name}`).value = "";
  }
  byId("history-q").focus();
  begin();
}

function textsTable(items) {
  const heads = ["text", "topics", "created"].map((key) => el("th", { scope: "col" }, t(`history.${key}`)));
  return el(
    "table",
    { class: "table list-table texts-table" },
    el("thead", {}, el("tr", {}, heads)),
    el("tbody", {}, items.map(textRow)),
  );
}

function textRow(item) {
  const text = FIELDS.map((name) => item[name] ?? "").join(" ").trim() || item.custom_id || item.id;
  return el(
    "tr",
    { "data-text": item.id },
    el("td", { class: "cell-main" }, el("a", { href: page(`/texts/${encodeURIComponent(item.id)}`), lang: "ru" }, excerpt(text, EXCERPT))),
    el("td", { class: "cell-topics" }, topicsOf(item)),
    el("td", { class: "cell-date" }, moment(item.created_at)),
  );
}

function topicsOf(item) {
  if (item.status !== "succeeded") {
    return stateBadge(isOver(item) || item.status === "running" ? item.status : "queued");
  }
  const names = assignedNames(item);
  return names.length > 0
    ? names.map((name) => el("span", { class: "topic-chip" }, name))
    : el("span", { class: "hint" }, t("history.no_topic"));
}

const given = new URLSearchParams(window.location.search);
for (const name of NAMES) {
  byId(`history-${name}`).value = given.get(name) ?? "";
}
let typing = null;
byId("search").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(begin, TYPING_MS);
});
byId("search").addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(typing);
  begin();
});
begin();

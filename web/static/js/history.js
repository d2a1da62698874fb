// What was classified so far: texts or files, newest first, a page more at a time.

import { api, page, request, sameServer } from "./api.js";
import { button, byId, el, notice } from "./dom.js";
import { excerpt, moment } from "./format.js";
import { isOver, jobRow, jobsTable, stateBadge } from "./jobs.js";
import { problemNotice } from "./problems.js";
import { assignedNames } from "./topics.js";
import { t } from "./words.js";

const PAGE_ROWS = 50;
const EXCERPT = 140;
const FIELDS = ["doc_text", "image2text", "speech2text"];

const KINDS = {
  texts: { address: api(`/classifications?limit=${PAGE_ROWS}`), table: textsTable, row: textRow, nothing: "history.no_texts", first: "/" },
  files: { address: api(`/jobs?limit=${PAGE_ROWS}`), table: jobsTable, row: jobRow, nothing: "history.no_files", first: "/files" },
};
const kind = KINDS[byId("view").dataset.show];

async function load(address) {
  byId("notice").replaceChildren();
  try {
    const { data } = await request(address);
    add(data.items);
    if (data.next) {
      const more = button(t("history.more"), () => load(sameServer(data.next)));
      more.id = "more";
      byId("notice").replaceChildren(more);
    }
  } catch (error) {
    byId("notice").replaceChildren(problemNotice(error, [button(t("retry"), () => load(address))]));
  }
}

function add(items) {
  const body = byId("list").querySelector("tbody");
  if (body) {
    const rows = items.map(kind.row);
    body.append(...rows);
    rows[0]?.querySelector("a")?.focus();
  } else if (items.length > 0) {
    byId("list").replaceChildren(kind.table(items));
  } else {
    const start = el("a", { class: "btn btn-sm btn-primary", href: page(kind.first) }, t(`${kind.nothing}_start`));
    byId("list").replaceChildren(notice("info", t(kind.nothing), [], [start]));
  }
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

load(kind.address);

// The active model: its topics with thresholds, and the facts of its card, whatever they are.

import { api, readiness, request } from "./api.js";
import { byId, el, notice } from "./dom.js";
import { duration, measure, number, percent } from "./format.js";
import { workerNotice } from "./follow.js";
import { problemNotice } from "./problems.js";
import { bars, topicName } from "./topics.js";
import { t, tOr } from "./words.js";

const SHARES = /(^|_)(f1|precision|recall|accuracy|auc|ap|share|ece)(_|$)/;

function facts(pairs) {
  return el("dl", { class: "facts" }, pairs.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
const isPlain = (value) => value === null || typeof value !== "object";
const factName = (key) => tOr(`card.${key}`, key.replaceAll("_", " "));

function plainValue(key, value) {
  if (value === null) {
    return "–";
  }
  if (typeof value === "boolean") {
    return t(value ? "yes" : "no");
  }
  if (typeof value === "number") {
    return SHARES.test(key) && value >= 0 && value <= 1 ? percent(value) : Number.isInteger(value) ? number(value) : measure(value);
  }
  return String(value);
}

/** A card is JSON without a fixed shape: scalars become facts, objects of like objects a table, the rest sections. */
function cardView(card, names, level = 3) {
  const plain = [];
  const sections = [];
  for (const [key, value] of Object.entries(card)) {
    if (isPlain(value)) {
      plain.push([factName(key), plainValue(key, value)]);
    } else if (Array.isArray(value) && value.every(isPlain)) {
      const items = value.map((item) => names.get(item) ?? plainValue(key, item));
      const sentences = items.some((item) => item.length > 40);
      plain.push([factName(key), sentences ? el("ul", {}, items.map((item) => el("li", {}, item))) : items.join(", ")]);
    } else {
      const inner = Array.isArray(value) ? Object.fromEntries(value.map((item, index) => [index + 1, item])) : value;
      const body = asTable(inner, names) ?? cardView(isObject(inner) ? inner : {}, names, Math.min(level + 1, 6));
      sections.push(el("section", {}, el(`h${level}`, { class: "small-heading" }, names.get(key) ?? factName(key)), body));
    }
  }
  return el("div", { class: "card-facts" }, plain.length > 0 && facts(plain), sections);
}

function asTable(object, names) {
  const rows = Object.entries(object);
  const alike = rows.length > 1 && rows.every(([, row]) => isObject(row) && Object.values(row).every(isPlain));
  if (!alike) {
    return null;
  }
  const columns = [...new Set(rows.flatMap(([, row]) => Object.keys(row)))];
  const head = el("tr", {}, el("td", {}), columns.map((column) => el("th", { scope: "col", class: "cell-number" }, factName(column))));
  const body = rows.map(([key, row]) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, names.get(key) ?? factName(key)),
      columns.map((column) => el("td", { class: "cell-number" }, column in row ? plainValue(column, row[column]) : "–")),
    ),
  );
  return el(
    "div",
    { class: "table-scroll", tabindex: "0", role: "region", "aria-label": t("model.table") },
    el("table", { class: "table card-table" }, el("thead", {}, head), el("tbody", {}, body)),
  );
}

function showModel(model) {
  const names = new Map(model.topics.map((topic) => [topic.topic ?? topic.id, topicName(topic)]));
  byId("facts").replaceChildren(
    facts([
      [t("model.name"), model.name],
      [t("model.version"), model.version],
      ["SHA-256", el("code", { class: "digest" }, model.sha256)],
    ]),
  );
  byId("topics").replaceChildren(bars(model.topics.map((topic) => ({ ...topic, topic: topic.topic ?? topic.id }))));
  byId("topics").classList.add("thresholds-only");
  byId("topics-pane").hidden = false;
  if (isObject(model.card) && Object.keys(model.card).length > 0) {
    byId("card").replaceChildren(cardView(model.card, names));
    byId("card-pane").hidden = false;
  }
}

async function showService() {
  const { checks } = await readiness();
  const lines = Object.entries(checks)
    .filter(([name]) => name !== "queue")
    .map(([name, check]) => [tOr(`service.${name}`, name), t(check.ok ? "service.ok" : "service.down")]);
  if (checks.worker?.alive !== undefined) {
    lines.push([t("service.alive"), number(checks.worker.alive)]);
  }
  const oldest = checks.queue?.oldest_waiting_seconds;
  lines.push([t("service.oldest"), typeof oldest === "number" ? duration(oldest) : t("service.nothing_waits")]);
  byId("service").replaceChildren(...workerNotice(checks), facts(lines));
  byId("service-pane").hidden = false;
}

async function open() {
  try {
    const { data } = await request(api("/models"));
    const model = data.items.find((item) => item.active);
    if (model) {
      showModel(model);
    } else {
      byId("notice").replaceChildren(notice("warning", t("model.missing"), [t("model.missing_words")]));
    }
    await showService();
  } catch (error) {
    byId("notice").replaceChildren(problemNotice(error));
  }
}

open();

// The card of a model, whatever it tells: JSON without a fixed shape as facts, tables and sections.

import { el, sentence } from "./dom.js";
import { measure, number, percent } from "./format.js";
import { t, tOr } from "./words.js";

const SHARES = /(^|_)(f1|precision|recall|accuracy|auc|ap|share|ece|right|average_precision)(_|$)/;
const LONG = 40;
const FOLDED = 9;
// What a model started from has a start of its own, and so on back to the first: few follow it that far.
const HISTORY = ["start", "averaged_with"];
// The database keeps the parts of a card by their length; people read them by what they are about.
const ORDER = ["base", "base_licence", "licence", "language", "data", "validation", "crops_of_2_to_30_words", "off_topic", "calibration", "thresholds"];
const LAST = ["training", "minutes", "seeds_run"];

export const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
const isPlain = (value) => value === null || typeof value !== "object";
export const factName = (key) => tOr(`card.${key}`, key.replaceAll("_", " "));

export function facts(pairs) {
  return el("dl", { class: "facts" }, pairs.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

/** A value as text. */
export function plainValue(key, value) {
  if (value === null || value === "") {
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

const shown = (key, value) => (typeof value === "string" && value.length > LONG ? sentence(value) : plainValue(key, value));

/** Scalars become facts, objects of like objects a table, the rest sections. `names` has those of the topics. */
export function cardView(title, card, names, level = 3) {
  const plain = [];
  const alike = [];
  const sections = [];
  for (const [key, value] of Object.entries(card).sort(byPlace)) {
    if (isPlain(value)) {
      plain.push([factName(key), shown(key, value)]);
    } else if (Array.isArray(value) && value.every(isPlain)) {
      const items = value.map((item) => names.get(item) ?? plainValue(key, item));
      const sentences = items.some((item) => item.length > LONG);
      plain.push([factName(key), sentences ? el("ul", {}, items.map((item) => el("li", {}, sentence(item)))) : items.join(", ") || "–"]);
    } else if (isObject(value) && Object.values(value).every(isPlain) && isTableWith(card, value)) {
      alike.push([key, value]);
    } else {
      const inner = Array.isArray(value) ? Object.fromEntries(value.map((item, index) => [index + 1, item])) : value;
      const name = names.get(key) ?? factName(key);
      const folded = HISTORY.includes(key) || Object.keys(inner).length > FOLDED;
      // What is folded has no heading: those inside it follow the one before.
      const below = folded ? level : Math.min(level + 1, 6);
      sections.push(section(name, cardView(`${title}, ${name}`, inner, names, below), folded, level));
    }
  }
  return el("div", { class: "card-facts" }, plain.length > 0 && facts(plain), alike.length > 0 && asTable(title, alike, names), sections);
}

/** Much that few will read is folded. */
function section(name, body, folded, level) {
  if (folded) {
    return el("details", { class: "card-fold" }, el("summary", {}, name), body);
  }
  return el("section", {}, el(`h${level}`, { class: "small-heading" }, name), body);
}

function byPlace([a], [b]) {
  const place = (key) => (ORDER.includes(key) ? ORDER.indexOf(key) : LAST.includes(key) ? 1000 + LAST.indexOf(key) : 100);
  return place(a) - place(b) || a.localeCompare(b);
}

/** Whether another part of the same object has the very same keys: together they are rows of one table. */
function isTableWith(card, value) {
  const keys = Object.keys(value).sort().join();
  return Object.values(card).some((other) => other !== value && isObject(other) && Object.keys(other).sort().join() === keys);
}

function asTable(title, rows, names) {
  const columns = [...new Set(rows.flatMap(([, row]) => Object.keys(row)))].sort();
  return tableOf(
    title,
    ["", ...columns.map(factName)],
    rows.map(([key, row]) => [names.get(key) ?? factName(key), ...columns.map((column) => (column in row ? plainValue(column, row[column]) : "–"))]),
  );
}

/** A table of which the first column names the rows; the others hold numbers. `title` tells it from other tables. */
export function tableOf(title, heads, rows) {
  const head = ([first, ...others]) => [
    first === "" ? el("td", {}) : el("th", { scope: "col" }, first),
    others.map((name) => el("th", { scope: "col", class: "cell-number" }, name)),
  ];
  return el(
    "div",
    { class: "table-scroll", tabindex: "0", role: "region", "aria-label": `${title}: ${t("model.table")}` },
    el(
      "table",
      { class: "table card-table" },
      el("thead", {}, el("tr", {}, head(heads))),
      el("tbody", {}, rows.map(([name, ...cells]) => el("tr", {}, el("th", { scope: "row" }, name), cells.map((cell) => el("td", { class: "cell-number" }, cell))))),
    ),
  );
}

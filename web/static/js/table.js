// A page of rows as a table: texts that open, a column per topic, failed rows with their reason.

import { el, icon } from "./dom.js";
import { excerpt, number, percent } from "./format.js";
import { rowDetail, rowProblem } from "./problems.js";
import { whyButton } from "./why.js";
import { t } from "./words.js";

const EXCERPT = 160;
const FIELDS = ["doc_text", "image2text", "speech2text"];

/**
 * The table of a page of rows. `of` is the model of the job and `ids` its topics, `names` has those of other models too, by
 * id. `cellOf(row)` gives the cell of the text.
 */
export function rowsTable(items, { of, ids, names }, { choice, cellOf }) {
  // The topics are those of the results, of whichever models these are; one that nobody has named goes by its id.
  const topicsOf = (rows) => new Set(rows.flatMap((row) => Object.keys(row.probabilities ?? {})));
  const found = topicsOf(items);
  const topics = found.size > 0 ? [...[...names.keys()].filter((id) => found.has(id)), ...[...found].filter((id) => !names.has(id))] : ids;
  // Rows can be sorted by the topics of the job's own model only.
  const own = new Set([...ids, ...topicsOf(items.filter((row) => !row.model || row.model === of))]);
  const heads = [
    el("th", { scope: "col", class: "cell-row" }, t("rows.row")),
    el("th", { scope: "col" }, t("rows.text")),
    topics.map((id) => {
      const name = names.get(id) ?? id;
      return own.has(id) ? orderHead(id, name, choice) : el("th", { scope: "col", class: "cell-topic" }, name);
    }),
    topics.length === 0 && el("th", { scope: "col" }, t("rows.state")),
  ];
  return el(
    "div",
    { class: "table-scroll", tabindex: "0", role: "region", "aria-label": t("model.table") },
    el(
      "table",
      { class: "table list-table rows-table" },
      el("thead", {}, el("tr", {}, heads)),
      el("tbody", {}, items.map((row) => rowView(row, topics, names, cellOf))),
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

function rowView(row, topics, names, cellOf) {
  const cells = row.probabilities
    ? topics.map((id) => topicCell(row, id, names.get(id) ?? id))
    : [el("td", { class: `cell-outcome ${row.status}`, colspan: Math.max(topics.length, 1) }, outcome(row))];
  return el(
    "tr",
    { "data-row": row.row, "data-status": row.status },
    el("td", { class: "cell-row", "data-label": t("rows.row") }, number(row.row)),
    cellOf(row),
    cells,
  );
}

function topicCell(row, id, name) {
  const assigned = row.assigned.includes(id);
  const probability = row.probabilities[id]; // None if the model of this row does not know the topic.
  const cell = el(
    "td",
    { class: `cell-topic${assigned ? " assigned" : ""}`, "data-label": name, "data-topic": id },
    assigned && [icon("check-lg"), el("span", { class: "visually-hidden" }, t("result.is_assigned"))],
    el("span", { class: "share" }, probability === undefined ? "–" : percent(probability)),
  );
  cell.style.setProperty("--share", probability ?? 0);
  return cell;
}

function outcome(row) {
  if (row.status === "failed") {
    const { error } = row;
    const where = error.column ? ` ${t("rows.column", { name: error.column })}` : "";
    const detail = rowDetail(error);
    return [
      icon("exclamation-circle"),
      el("span", {}, `${rowProblem(error)}${where}`),
      detail && el("span", { class: "hint reason" }, detail),
    ];
  }
  return row.status === "cancelled"
    ? [icon("slash-circle"), el("span", {}, t("rows.cancelled"))]
    : [icon("hourglass-split"), el("span", {}, t("rows.waiting"))];
}

/**
 * Makes the cells of texts, and gives the one of before for a row that is as it was: what somebody reads in it, has opened
 * or asked for stays. `address` is that of the job.
 */
export function makeTextCells(address) {
  let cells = new Map(); // Of the page that is shown, by row: {of, names, cell, resource}.
  return {
    /** Forget all rows but those of `items`, which come next; cellOf(row) as `rowsTable` wants it. */
    of(items, names) {
      const before = cells;
      cells = new Map();
      return (row) => {
        const had = before.get(row.row);
        const of = JSON.stringify(row);
        const made = had?.of === of && had.names === names ? had : { of, names, ...textCell(row, names, { address, had }) };
        cells.set(row.row, made);
        return made.cell;
      };
    },
  };
}

function textCell(row, names, { address, had }) {
  const parts = FIELDS.filter((name) => row[name]).map((name) => [t(`field.${name}`), row[name], "ru"]);
  const others = [
    ...(row.custom_id ? [[t("fact.custom_id"), row.custom_id, null]] : []),
    ...Object.entries(row.columns ?? {}).map(([name, value]) => [name, typeof value === "string" ? value : JSON.stringify(value), null]),
  ];
  const cell = (...children) => el("td", { class: "cell-text" }, children);
  if (parts.length === 0 && others.length === 0) {
    return { cell: cell(el("span", { class: "hint" }, t("rows.no_text"))) };
  }
  const first = row.doc_text || parts[0]?.[1] || others.map(([, value]) => value).join(" · ");
  const short = excerpt(first, EXCERPT);
  const marks = row.truncated ? el("span", { class: "tag" }, t("rows.truncated")) : null;
  const saysAll = parts.length === 1 && row.doc_text && short === row.doc_text;
  if (saysAll && others.length === 0 && !row.probabilities) {
    return { cell: cell(el("span", { class: "row-text", lang: "ru" }, short, marks)) };
  }
  const resource = row.probabilities ? resourceOf(row, names, had?.resource) : null;
  const open = had?.cell.querySelector("details")?.open ?? false;
  const details = el("details", { open, "data-row": row.row }, el("summary", { lang: "ru" }, short || t("rows.no_text"), marks));
  // Whole texts may be long, and most are never opened.
  const fill = () => {
    if (details.open && details.childElementCount === 1) {
      const texts = list(saysAll ? [] : parts);
      details.append(...(resource ? explained(row, resource, texts, address) : [texts]), list(others));
    }
  };
  details.addEventListener("toggle", fill);
  fill();
  return { cell: cell(details), resource };
}

const list = (parts) => el("dl", { class: "row-parts" }, parts.map(([name, value, lang]) => [el("dt", {}, name), el("dd", { lang }, value)]));

/** The texts of a row and the button that marks their words in their place. */
function explained(row, resource, texts, address) {
  const words = el("div", { class: "why-place" });
  const button = whyButton(resource, words, {
    onShown: (shown) => {
      texts.hidden = shown;
    },
    scope: `why-${row.row}`,
    address: `${address}/rows/${row.row}/explanation`,
    name: t("heat.row", { n: number(row.row) }),
  });
  return [el("p", { class: "row-tools" }, button), words, texts];
}

/** A row as the pages of single texts know one; an explanation that is known already stays with it. */
function resourceOf(row, names, before) {
  const topics = Object.entries(row.probabilities)
    .sort(([, one], [, other]) => other - one)
    .map(([id, probability]) => ({ topic: id, name: names.get(id) ?? id, probability, assigned: row.assigned.includes(id) }));
  const { explanation = null, explanation_error = null } = before ?? {};
  return { ...row, topics, explanation, explanation_error };
}

// Charts as elements of the page: they take its colours, can be read aloud, and are printed as sharp as its text.

import { el } from "./dom.js";
import { number, percent } from "./format.js";
import { t } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 48;
const BIN_WIDTH = 10;

/** How many rows of a histogram of equal bins from 0 to 1 lie at `threshold` or above; within a bin taken as even. */
export function countAbove(histogram, threshold) {
  const place = threshold * histogram.length;
  const bin = Math.min(Math.floor(place), histogram.length - 1);
  const above = histogram.slice(bin + 1).reduce((sum, rows) => sum + rows, 0);
  return Math.round(above + histogram[bin] * (bin + 1 - place));
}

/** A bar for each of [{name, rows, about}] out of `total`; `about` says that the number is not exact. */
export function sharesChart(items, total) {
  return el(
    "ol",
    { class: "shares" },
    items.map(({ name, rows, about, look }) => {
      const fill = el("span", { class: "bar-fill" });
      fill.style.setProperty("--share", total > 0 && rows !== null ? rows / total : 0);
      const words = rows === null ? "…" : `${about ? "≈ " : ""}${number(rows)}${total > 0 ? ` (${percent(rows / total)})` : ""}`;
      return el(
        "li",
        { class: look ?? null },
        el("span", { class: "bar-name" }, name),
        el("span", { class: "share-count" }, words),
        el("span", { class: "bar-track", "aria-hidden": "true" }, fill),
      );
    }),
  );
}

/**
 * How many rows have which probability: {element, update(bins, threshold)}. Heights are square roots, because most rows
 * are near 0 and a few hundred near 1 would not be seen beside them. A threshold of null is one that nobody knows.
 * `onPick(from, to)` hears a click on a bin.
 */
export function histogramChart({ name, bins, onPick }) {
  const width = BIN_WIDTH * bins;
  const svg = shape("svg", { class: "histogram", viewBox: `0 0 ${width} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
  const bars = Array.from({ length: bins }, (_, bin) => {
    const bar = shape("rect", { x: bin * BIN_WIDTH + 0.5, width: BIN_WIDTH - 1, y: HEIGHT, height: 0 });
    const title = shape("title", {});
    const whole = shape("rect", { class: "hit", x: bin * BIN_WIDTH, width: BIN_WIDTH, y: 0, height: HEIGHT });
    whole.append(title);
    whole.addEventListener("click", () => onPick(bin / bins, (bin + 1) / bins));
    svg.append(bar, whole);
    return { bar, title };
  });
  const line = shape("line", { class: "threshold", y1: 0, y2: HEIGHT });
  svg.append(line);
  return {
    element: svg,
    update(histogram, threshold) {
      const most = Math.max(...histogram, 1);
      bars.forEach(({ bar, title }, bin) => {
        const height = histogram[bin] > 0 ? Math.max(1, Math.sqrt(histogram[bin] / most) * HEIGHT) : 0;
        bar.setAttribute("y", HEIGHT - height);
        bar.setAttribute("height", height);
        bar.setAttribute("class", threshold === null || (bin + 0.5) / bins >= threshold ? "above" : "below");
        title.textContent = t("chart.bin", { from: percent(bin / bins), to: percent((bin + 1) / bins), rows: number(histogram[bin]) });
      });
      line.setAttribute("display", threshold === null ? "none" : "inline");
      line.setAttribute("x1", threshold * width);
      line.setAttribute("x2", threshold * width);
      const words = () => t("chart.histogram", { topic: name, threshold: percent(threshold), rows: number(countAbove(histogram, threshold)) });
      svg.setAttribute("aria-label", threshold === null ? name : words());
    },
  };
}

/** Rows by the two topics that are assigned together: a table, the diagonal of which has the rows of each topic. */
export function pairsTable({ topics, rowsOf, onPick }) {
  const most = Math.max(1, ...topics.flatMap((first, at) => topics.slice(0, at).map((second) => rowsOf(first.id, second.id))));
  const cell = (first, second, own) => {
    const rows = rowsOf(first.id, second.id);
    const label = own ? t("chart.topic_rows", { topic: first.name, rows: number(rows) }) : t("chart.pair_rows", { first: first.name, second: second.name, rows: number(rows) });
    const made = el(
      "td",
      { class: own ? "own" : null },
      el("button", { type: "button", "aria-label": label, title: label, on: { click: () => onPick(own ? [first.id] : [first.id, second.id]) } }, number(rows)),
    );
    made.style.setProperty("--share", own ? 0 : rows / most);
    return made;
  };
  return el(
    "table",
    { class: "heat-table" },
    el("thead", {}, el("tr", {}, el("td", {}), topics.map(({ name }) => el("th", { scope: "col" }, el("span", {}, name))))),
    el(
      "tbody",
      {},
      topics.map((first, at) =>
        el(
          "tr",
          {},
          el("th", { scope: "row" }, first.name),
          topics.map((second, place) => (place > at ? el("td", { class: "blank" }) : cell(first, second, place === at))),
        ),
      ),
    ),
  );
}

/** An element of SVG. */
export function shape(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) {
    made.setAttribute(name, value);
  }
  return made;
}

// How far the probabilities of a topic can be believed: what the model said against what was so.

import { tableOf } from "./card.js";
import { shape } from "./charts.js";
import { el } from "./dom.js";
import { percent } from "./format.js";
import { t } from "./words.js";

const SIZE = 100;
const x = (share) => (share * SIZE).toFixed(2);
const y = (share) => ((1 - share) * SIZE).toFixed(2);

/** The plot of a topic: {name, threshold, bins: [{believed, true}]}. On the diagonal a model means what it says. */
export function reliabilityPlot({ id, name, threshold, bins }) {
  const svg = shape("svg", { class: "plot", viewBox: `-2 -2 ${SIZE + 4} ${SIZE + 4}`, role: "img", "aria-label": inWords(name, bins) });
  svg.append(
    shape("path", { class: "grid", d: [0, 0.25, 0.5, 0.75, 1].map((at) => `M${x(at)} 0V${SIZE}M0 ${y(at)}H${SIZE}`).join("") }),
    shape("path", { class: "ideal", d: `M0 ${SIZE}L${SIZE} 0` }),
    shape("path", { class: "at-threshold", d: `M${x(threshold)} 0V${SIZE}` }),
    shape("polyline", { class: "curve", points: bins.map((bin) => `${x(bin.believed)},${y(bin.true)}`).join(" ") }),
    ...bins.map((bin) => {
      const point = shape("circle", { cx: x(bin.believed), cy: y(bin.true), r: 1.8 });
      const title = shape("title", {});
      title.textContent = t("plot.point", { believed: percent(bin.believed), so: percent(bin.true) });
      point.append(title);
      return point;
    }),
  );
  return el(
    "figure",
    { class: "plot-figure", "data-topic": id },
    el("figcaption", {}, name),
    el("div", { class: "plot-frame" }, el("span", { class: "plot-y", "aria-hidden": "true" }, t("plot.so")), svg),
    el("span", { class: "plot-x", "aria-hidden": "true" }, t("plot.believed")),
  );
}

/** The same as numbers. */
export function numbersTable({ name, bins }) {
  return el(
    "div",
    {},
    el("h3", { class: "small-heading" }, name),
    tableOf(name, [t("plot.bin"), t("plot.believed"), t("plot.so")], bins.map((bin, at) => [String(at + 1), percent(bin.believed), percent(bin.true)])),
  );
}

/** The bin that is farthest from the diagonal tells what a glance at the plot does. */
function inWords(name, bins) {
  const worst = bins.reduce((most, bin) => (Math.abs(bin.believed - bin.true) > Math.abs(most.believed - most.true) ? bin : most));
  return t("plot.words", { topic: name, believed: percent(worst.believed), so: percent(worst.true) });
}

// Many rows by topics at one look: a column of colour for each row. A canvas, because elements by the thousand are slow.

import { byId, el } from "./dom.js";
import { excerpt, number, percent } from "./format.js";
import { gather } from "./gather.js";
import { t } from "./words.js";

const LINE = 18;
const WORDS = 52; // The line of words under the picture, which may be two.
const EXCERPT = 110;
export const HEAT_ROWS = 200;

/** The picture of `rows` (as results give them) by `topics`, with a line under it that tells of the row pointed at. */
function rowsHeat({ topics, rows, labelledBy }) {
  const canvas = el("canvas", { class: "heat-canvas", tabindex: "0", role: "img", "aria-labelledby": labelledBy, "aria-describedby": "heat-row" });
  canvas.style.height = `${topics.length * LINE}px`; // Else it is as high as it is wide by half, until it is drawn.
  const words = el("p", { class: "hint heat-row", id: "heat-row", role: "status" }, t("heat.hint"));
  const names = el("ul", { class: "heat-names", "aria-hidden": "true" }, topics.map(({ name }) => el("li", {}, name)));
  let at = null;

  const draw = () => {
    const ratio = window.devicePixelRatio || 1;
    const width = canvas.clientWidth;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(topics.length * LINE * ratio);
    const pen = canvas.getContext("2d");
    const style = getComputedStyle(canvas);
    const step = canvas.width / rows.length;
    rows.forEach((row, place) => {
      topics.forEach(({ id }, line) => {
        const probability = row.probabilities?.[id];
        pen.globalAlpha = probability === undefined ? 1 : probability;
        pen.fillStyle = style.getPropertyValue(probability === undefined ? "--line" : "--accent");
        pen.fillRect(Math.floor(place * step), Math.round(line * LINE * ratio), Math.ceil(step), Math.round((LINE - 1) * ratio));
      });
    });
    if (at !== null) {
      pen.globalAlpha = 1;
      pen.strokeStyle = style.getPropertyValue("--mark");
      pen.lineWidth = ratio;
      pen.strokeRect(at * step, 0.5, Math.max(step, 2), canvas.height - 1);
    }
  };

  const point = (place) => {
    at = Math.max(0, Math.min(rows.length - 1, place));
    const row = rows[at];
    const best = topics.map(({ id, name }) => [row.probabilities?.[id] ?? -1, name]).sort((a, b) => b[0] - a[0])[0];
    // None of these topics has a row that another model has computed.
    const without = row.probabilities ? "–" : t("heat.not_computed");
    const said = best[0] < 0 ? without : `${best[1]} ${percent(best[0])}`;
    words.textContent = `${t("heat.row", { n: number(row.row) })}: ${said} · ${excerpt(row.doc_text || row.image2text || row.speech2text || "", EXCERPT)}`;
    draw();
  };

  canvas.addEventListener("pointermove", (event) => {
    const place = Math.floor((event.offsetX / canvas.clientWidth) * rows.length);
    if (place !== at) {
      point(place);
    }
  });
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, Home: -rows.length, End: rows.length }[event.key];
    if (step !== undefined) {
      event.preventDefault();
      point((at ?? -1) + step);
    }
  });
  // Drawn when it has a size, and again when the window or its colours change.
  new ResizeObserver(draw).observe(canvas);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => setTimeout(draw));
  return el("div", { class: "heat" }, names, el("div", { class: "heat-field" }, canvas), words);
}

/** Takes over the part of the page with the picture: of the first rows that are chosen, asked for when that changes. */
export function makeHeat(address, choice) {
  let asking = null;
  let stop = null; // Ends a search with what it has found.
  let shownFor = null;

  async function load(topics, total) {
    asking?.abort();
    const mine = new AbortController();
    const enough = new AbortController();
    asking = mine;
    stop = enough;
    try {
      const params = new URLSearchParams([...choice.filterParams(), ...choice.thresholdParams()]);
      const onSearching = (searched, found) => {
        byId("heat-words").textContent = t("rows.searching", { n: searched, total, found });
      };
      const { items } = await gather(`${address}/results?${params}`, HEAT_ROWS, { signal: mine.signal, stop: enough.signal, onSearching });
      const some = items.length > 0;
      const words = choice.isFiltered() ? "heat.chosen_rows" : "heat.first_rows";
      const none = enough.signal.aborted ? "rows.none_so_far" : "rows.none_found";
      // Without rows its place stays, so that what somebody looks at below does not move.
      byId("heat-part").hidden = false;
      byId("heat").replaceChildren(...(some ? [rowsHeat({ topics, rows: items, labelledBy: "heat-heading" })] : []));
      byId("heat-words").textContent = some ? t(words, { n: items.length }) : t(none);
    } catch {
      if (!mine.signal.aborted) {
        // The rows are asked for by the table as well, which says what is wrong, and whose next rows have this tried again.
        byId("heat-part").hidden ||= !byId("heat").hasChildNodes();
        shownFor = "";
      }
    }
  }

  return {
    /** Draw when something else is to be drawn: `state` says what of the job, which has `total` rows, the picture depends on. */
    follow(topics, state, total) {
      // Which rows are assigned a topic, and so are chosen, follows from thresholds; probabilities do not.
      const wanted = `${state} ${choice.filterParams()} ${choice.isFiltered() ? choice.thresholdParams() : ""}`;
      if (topics.length > 0 && wanted !== shownFor) {
        if (shownFor === null) {
          // Room for the picture, so that what stands below does not jump when it comes.
          byId("heat-part").hidden = false;
          byId("heat-words").textContent = "\u00a0";
          byId("heat").style.minHeight = `${topics.length * LINE + WORDS}px`;
        }
        shownFor = wanted;
        load(topics, total);
      }
    },
    stopSearch() {
      stop?.abort();
    },
  };
}

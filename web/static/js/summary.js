// A job as a whole: shares of topics, a histogram and a threshold to move for each, topics that go together, failures.

import { makeAgain } from "./again.js";
import { api, request } from "./api.js";
import { countAbove, histogramChart, pairsTable, sharesChart } from "./charts.js";
import { byId, el } from "./dom.js";
import { list, number, percent } from "./format.js";
import { doneRows, isOver } from "./jobs.js";
import { topicName } from "./topics.js";
import { t, tOr } from "./words.js";

const REFRESH_MS = 3000;
const STEP = 0.01;

/** Takes over the section of the charts. `onData(summary, topics)` hears each summary, `onSettled` each end of asking. */
export function makeSummary(address, choice, { onData, onSettled }) {
  let model = null; // {label, topics: [{id, name, threshold}]}
  let data = null; // The last summary, and the thresholds with which it was counted.
  let countedFor = null;
  let cards = new Map();
  let asking = null;
  let tookMs = 0;
  let askedAt = -Infinity;
  let job = null;
  const again = makeAgain(byId("summary-notice"));

  const isExact = () => countedFor === String(choice.thresholdParams());
  const thresholdOf = (topic) => choice.threshold(topic.id) ?? topic.threshold;

  async function load() {
    asking?.abort();
    again.stop();
    const mine = new AbortController();
    asking = mine;
    askedAt = performance.now();
    const params = choice.thresholdParams();
    try {
      if (job.model !== null && model?.label !== job.model) {
        const { data: found } = await request(api(`/models/${encodeURIComponent(job.model)}`), { signal: mine.signal });
        model = { label: job.model, topics: found.topics.map((topic) => ({ ...topic, name: topicName(topic) })) };
        cards = new Map();
      }
      const answer = await request(`${address}/summary?${params}`, { signal: mine.signal });
      tookMs = performance.now() - askedAt;
      data = answer.data;
      countedFor = String(params);
      byId("summary-notice").replaceChildren();
      show();
      onData(data, model?.topics ?? []);
    } catch (error) {
      if (!mine.signal.aborted) {
        again.show(error, load);
        byId("summary").hidden = false;
      }
    }
    if (!mine.signal.aborted) {
      onSettled();
    }
  }

  function show() {
    showFailures();
    const some = model !== null && data.computed > 0;
    byId("summary").hidden = !some && data.failures.length === 0;
    byId("charts").hidden = !some;
    if (!some) {
      return;
    }
    if (cards.size === 0) {
      const made = model.topics.map((topic) => [topic.id, card(topic)]);
      cards = new Map(made);
      byId("cards").replaceChildren(...made.map(([, { element }]) => element));
    }
    showNumbers();
    const rows = new Map(data.pairs.flatMap(({ topics: [a, b], rows: n }) => [[`${a} ${b}`, n], [`${b} ${a}`, n]]));
    const own = new Map(data.topics.map((topic) => [topic.topic, topic.assigned]));
    const focused = document.activeElement?.closest("#pairs") ? document.activeElement.getAttribute("aria-label") : null;
    byId("pairs").replaceChildren(
      pairsTable({
        topics: model.topics,
        rowsOf: (a, b) => (a === b ? (own.get(a) ?? 0) : (rows.get(`${a} ${b}`) ?? 0)),
        onPick: (ids) => pick({ assigned: ids.join(";") }),
      }),
    );
    if (focused) {
      [...byId("pairs").querySelectorAll("button")].find((cell) => cell.getAttribute("aria-label") === focused)?.focus();
    }
  }

  /** What follows at once from the histograms while a slider moves; until the server has counted, about so many. */
  function showNumbers() {
    const total = data.computed;
    const items = model.topics.map((topic) => {
      const found = data.topics.find(({ topic: id }) => id === topic.id);
      const rows = isExact() ? found.assigned : countAbove(found.histogram, thresholdOf(topic));
      cards.get(topic.id).update(found, rows);
      return { name: topic.name, rows, about: !isExact() };
    });
    const none = { name: t("summary.none"), rows: isExact() ? data.none_assigned : null, look: "none" };
    byId("shares").replaceChildren(sharesChart([...items, none], total));
    byId("pairs").classList.toggle("stale", !isExact());
    byId("reset-thresholds").classList.toggle("invisible", !choice.hasThresholds());
    byId("summary-words").textContent = t(isOver(job) ? "summary.of_all" : "summary.so_far", { n: total });
  }

  function card(topic) {
    const chart = histogramChart({
      name: topic.name,
      bins: data.topics.find(({ topic: id }) => id === topic.id).histogram.length,
      onPick: (from, to) => pick({ topic: topic.id, min_probability: String(from), max_probability: String(to) }),
    });
    const slider = el("input", { type: "range", class: "form-range", id: `threshold-${topic.id}`, min: "0", max: "1", step: String(STEP) });
    const value = el("output", { for: slider.id });
    const count = el("span", { class: "share-count" });
    slider.value = String(thresholdOf(topic));
    slider.addEventListener("input", () => choice.setThreshold(topic.id, Number(slider.value)));
    const element = el(
      "div",
      { class: "topic-card", "data-topic": topic.id },
      el("h4", {}, topic.name, " ", count),
      chart.element,
      slider,
      el("label", { for: slider.id, class: "hint" }, t("summary.threshold", { topic: topic.name }), " ", value),
    );
    return {
      element,
      update(found, rows) {
        const threshold = thresholdOf(topic);
        if (document.activeElement !== slider) {
          slider.value = String(threshold);
        }
        value.textContent = percent(threshold);
        slider.setAttribute("aria-valuetext", percent(threshold));
        count.textContent = `${isExact() ? "" : "≈ "}${number(rows)}`;
        chart.update(found.histogram, threshold);
      },
    };
  }

  function showFailures() {
    byId("failures").replaceChildren(
      ...data.failures.map(({ code, rows, examples }) =>
        el(
          "li",
          { "data-code": code },
          el("strong", {}, number(rows)),
          ` ${tOr(`row.${code}`, code)}`,
          examples.length > 0 && el("span", { class: "hint inline" }, t("summary.examples", { rows: list(examples.slice(0, 5).map(number)) })),
        ),
      ),
    );
    byId("failures-part").hidden = data.failures.length === 0;
  }

  function pick(filter) {
    choice.setFilter(filter);
    byId("rows").scrollIntoView({ block: "start" });
  }

  choice.onMove(() => {
    if (data !== null && cards.size > 0) {
      showNumbers();
    }
  });
  choice.onSettle(() => {
    if (data !== null && !isExact()) {
      load();
    }
  });
  byId("reset-thresholds").addEventListener("click", () => {
    choice.resetThresholds();
    byId("cards").querySelector("input")?.focus({ preventScroll: true }); // The button is gone.
  });
  byId("show-failed").addEventListener("click", () => pick({ status: "failed" }));

  return {
    /** News of the job: asked for again when there is something new, less often where counting takes long. */
    follow(now, before) {
      job = now;
      const news = before === null || doneRows(now) !== doneRows(before) || now.status !== before.status;
      const due = performance.now() - askedAt > Math.max(REFRESH_MS, 5 * tookMs);
      if (doneRows(now) > 0 && ((news && isOver(now)) || (data === null && askedAt < 0) || (due && !isOver(now)))) {
        load();
      }
    },
  };
}

// A job as a whole: shares of topics, a histogram and a threshold to move for each, topics that go together, failures.

import { makeAgain } from "./again.js";
import { COUNTING_MS, request } from "./api.js";
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
  let topics = []; // {id, name, threshold} of those that the summary counts; no threshold where it is not known.
  let data = null; // The last summary, and the thresholds with which it was counted.
  let countedFor = null;
  let askedFor = null; // Those of the one that was asked for last.
  let cards = new Map();
  let asking = null; // Ends the request that is on its way.
  let stale = false; // There was news since the last one was asked for.
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
    stale = false;
    const params = choice.thresholdParams();
    askedFor = String(params);
    let failed = false;
    try {
      const answer = await request(`${address}/summary?${params}`, { signal: mine.signal, limit: COUNTING_MS });
      data = answer.data;
      countedFor = String(params);
      readTopics();
      byId("summary-notice").replaceChildren();
      show();
      onData(data, topics);
    } catch (error) {
      if (mine.signal.aborted) {
        return;
      }
      failed = true;
      stale = true;
      again.show(error, load);
      byId("summary").hidden = false;
    }
    tookMs = performance.now() - askedAt;
    asking = null;
    onSettled();
    if (!failed) {
      look();
    }
  }

  /** The summary itself says by which topics and thresholds it counts: a name with a version may be that of several models. */
  function readTopics() {
    const its = data.topics.map((topic) => ({ id: topic.topic, name: topicName(topic), threshold: topic.threshold ?? null }));
    if (JSON.stringify(its) !== JSON.stringify(topics)) {
      topics = its;
      cards = new Map();
    }
  }

  /** Ask anew when there was news, less often where counting takes long, and when the job has ended. */
  function look() {
    const due = isOver(job) || performance.now() - askedAt > Math.max(REFRESH_MS, 5 * tookMs);
    if (asking === null && stale && due && doneRows(job) > 0) {
      load();
    }
  }

  function show() {
    showFailures();
    showOthers();
    showTruncated();
    const some = topics.length > 0 && data.computed > 0;
    byId("summary").hidden = !some && data.failures.length === 0 && byId("other-models").hidden;
    byId("charts").hidden = !some;
    if (!some) {
      return;
    }
    if (cards.size === 0) {
      const made = topics.map((topic) => [topic.id, card(topic)]);
      cards = new Map(made);
      byId("cards").replaceChildren(...made.map(([, { element }]) => element));
    }
    showNumbers();
    const rows = new Map(data.pairs.flatMap(({ topics: [a, b], rows: n }) => [[`${a} ${b}`, n], [`${b} ${a}`, n]]));
    const own = new Map(data.topics.map((topic) => [topic.topic, topic.assigned]));
    const focused = document.activeElement?.closest("#pairs") ? document.activeElement.getAttribute("aria-label") : null;
    byId("pairs").replaceChildren(
      pairsTable({
        topics,
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
    const items = topics.map((topic, at) => {
      const found = data.topics[at];
      const rows = isExact() || thresholdOf(topic) === null ? found.assigned : countAbove(found.histogram, thresholdOf(topic));
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
      bins: data.topics[topics.indexOf(topic)].histogram.length,
      onPick: (from, to) => pick({ topic: topic.id, min_probability: String(from), max_probability: String(to) }),
    });
    const slider = el("input", { type: "range", class: "form-range", id: `threshold-${topic.id}`, min: "0", max: "1", step: String(STEP) });
    const value = el("output", { for: slider.id });
    const count = el("span", { class: "share-count" });
    slider.addEventListener("input", () => choice.setThreshold(topic.id, Number(slider.value)));
    const label = el("label", { for: slider.id, class: "hint" }, t("summary.threshold", { topic: topic.name }), " ", value);
    const element = el("div", { class: "topic-card", "data-topic": topic.id }, el("h4", {}, topic.name, " ", count), chart.element, slider, label);
    return {
      element,
      update(found, rows) {
        const threshold = thresholdOf(topic);
        slider.hidden = threshold === null;
        label.hidden = threshold === null;
        if (threshold !== null) {
          if (document.activeElement !== slider) {
            slider.value = String(threshold);
          }
          value.textContent = percent(threshold);
          slider.setAttribute("aria-valuetext", percent(threshold));
        }
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

  /** Rows that no figure here counts: the topics of two models need not be the same. */
  function showOthers() {
    const others = data.other_models ?? [];
    byId("other-models").hidden = others.length === 0;
    // Two trainings may go by one name and version.
    const called = ({ model, model_sha256: sha256 }) => (model === data.model && sha256 ? `${model} (${sha256.slice(0, 8)})` : model);
    byId("other-models").textContent = others.map((its) => t("summary.other_model", { n: its.rows, model: called(its) })).join(" ");
  }

  /** Topics by the beginning of a text alone are worth less: whoever sees the figures should know of how many rows. */
  function showTruncated() {
    const { truncated, computed } = data;
    byId("truncated").hidden = truncated === 0;
    const words = truncated > 0 ? t("summary.truncated", { n: truncated, share: percent(truncated / computed) }) : "";
    byId("truncated").replaceChildren(el("strong", {}, words), " ", t("summary.truncated_words"));
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
    if (askedFor !== null && askedFor !== String(choice.thresholdParams())) {
      load();
    }
  });
  byId("reset-thresholds").addEventListener("click", () => {
    choice.resetThresholds();
    byId("cards").querySelector("input")?.focus({ preventScroll: true }); // The button is gone.
  });
  byId("show-failed").addEventListener("click", () => pick({ status: "failed" }));

  return {
    follow(now, before) {
      job = now;
      stale ||= before === null || doneRows(job) !== doneRows(before) || job.status !== before.status;
      look();
    },
    /** Ask for nothing any more. */
    stop() {
      asking?.abort();
      again.stop();
    },
  };
}

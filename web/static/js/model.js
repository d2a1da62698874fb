// The active model: what it reaches, its topics, how far its probabilities can be believed; and the service that runs it.

import { makeAgain } from "./again.js";
import { api, request } from "./api.js";
import { cardView, factName, facts, isObject, plainValue, tableOf } from "./card.js";
import { button, byId, el, notice, sentence } from "./dom.js";
import { percent } from "./format.js";
import { numbersTable, reliabilityPlot } from "./plots.js";
import { followService } from "./service.js";
import { topicName } from "./topics.js";
import { t } from "./words.js";

// Parts of the card that have a place of their own on the page.
const PLACED = new Set(["limits", "reliability", "per_topic", "base"]);
const FIGURES = ["micro_f1", "macro_f1", "mean_average_precision", "first_choice_right", "subset_accuracy", "calibration_error", "brier"];
const MEASURES = ["precision", "recall", "f1"];

const again = makeAgain(byId("notice"));

function showModel(model) {
  const topics = model.topics.map((topic) => ({ ...topic, id: topic.topic ?? topic.id, name: topicName(topic) }));
  const card = isObject(model.card) ? model.card : {};
  byId("facts").replaceChildren(
    facts([
      [t("model.name"), `${model.name}, ${t("model.version_is", { version: model.version })}`],
      ...(card.base ? [[factName("base"), sentence(String(card.base))]] : []),
      ["SHA-256", el("code", { class: "digest" }, model.sha256)],
    ]),
  );
  showFigures(card.validation?.figures);
  showTopics(topics, isObject(card.per_topic) ? card.per_topic : {});
  showReliability(topics, card.reliability);
  if (Array.isArray(card.limits) && card.limits.length > 0) {
    byId("limits").replaceChildren(el("ul", { class: "limits" }, card.limits.map((limit) => el("li", {}, sentence(String(limit))))));
    byId("limits-pane").hidden = false;
  }
  const rest = Object.fromEntries(Object.entries(card).filter(([key]) => !PLACED.has(key)));
  if (isObject(rest.validation)) {
    rest.validation = { ...rest.validation };
    delete rest.validation.figures;
  }
  if (Object.keys(rest).length > 0) {
    byId("card").replaceChildren(cardView(byId("card-heading").textContent, rest, new Map(topics.map(({ id, name }) => [id, name]))));
    byId("card-pane").hidden = false;
  }
}

const place = (figure) => (FIGURES.includes(figure) ? FIGURES.indexOf(figure) : FIGURES.length);

/** The figures of the validation posts, each with how much it varies. */
function showFigures(figures) {
  const known = Object.entries(isObject(figures) ? figures : {})
    .filter(([, figure]) => typeof figure?.mean === "number")
    .sort(([a], [b]) => place(a) - place(b));
  byId("figures").replaceChildren(
    ...known.map(([key, { mean, spread }]) =>
      el(
        "div",
        { "data-figure": key },
        el("dt", {}, factName(key)),
        el("dd", {}, plainValue(key, mean), typeof spread === "number" && el("span", { class: "hint inline" }, `± ${plainValue(key, spread)}`)),
      ),
    ),
  );
  byId("figures").hidden = byId("figures-words").hidden = known.length === 0;
}

/** A row for each topic: its threshold, and what the model reaches at it as far as the card tells. */
function showTopics(topics, measured) {
  const measures = MEASURES.filter((name) => topics.some(({ id }) => typeof measured[id]?.[name] === "number"));
  const cell = (value) => (typeof value === "number" ? percent(value) : "–");
  byId("topics").replaceChildren(
    tableOf(
      byId("topics-heading").textContent,
      [t("compare.topic"), factName("threshold"), ...measures.map(factName)],
      topics.map(({ id, name, threshold }) => [name, percent(threshold), ...measures.map((measure) => cell(measured[id]?.[measure]))]),
    ),
    ...(typeof measured.method === "string" ? [el("p", { class: "hint" }, sentence(measured.method))] : []),
  );
  byId("topics-pane").hidden = false;
}

function showReliability(topics, reliability) {
  const told = topics.map((topic) => ({ ...topic, bins: reliability?.topics?.[topic.id] })).filter(({ bins }) => Array.isArray(bins) && bins.length > 0);
  byId("plots").replaceChildren(...told.map(reliabilityPlot));
  byId("plot-numbers").replaceChildren(
    ...(reliability?.method ? [el("p", {}, sentence(String(reliability.method)))] : []),
    ...told.map(numbersTable),
  );
  byId("reliability-pane").hidden = told.length === 0;
}

async function open() {
  again.stop();
  try {
    const { data } = await request(api("/models"));
    byId("notice").replaceChildren();
    const model = data.items.find((item) => item.active);
    if (model) {
      showModel(model);
    } else {
      byId("notice").replaceChildren(notice("warning", t("model.missing"), [t("model.missing_words")], [button(t("retry"), open)]));
    }
  } catch (error) {
    again.show(error, open);
  }
  // What the service does is known sooner, and would be pushed down.
  byId("service-pane").hidden = false;
}

open();
followService();

// Topics as bars: each with its probability, its threshold, and a mark in words and shape if it is assigned.

import { page } from "./api.js";
import { el, icon, notice } from "./dom.js";
import { list, percentPair } from "./format.js";
import { language, t } from "./words.js";

export const topicName = (topic) => (language === "en" && topic.name_en) || topic.name || topic.topic || topic.id;

export const assignedNames = (resource) => resource.topics.filter((topic) => topic.assigned).map(topicName);

/** One sentence that says the result. */
export function verdict(resource) {
  const names = assignedNames(resource);
  return names.length > 0 ? t("result.assigned", { n: names.length, topics: list(names) }) : t("result.none");
}

/** The whole result of one text. */
export function resultView(resource, { link = true } = {}) {
  const found = assignedNames(resource).length > 0;
  return el(
    "div",
    { class: "result" },
    el("p", { class: `verdict${found ? "" : " none"}` }, found ? icon("check-circle") : icon("slash-circle"), verdict(resource)),
    resource.truncated && notice("info", t("result.truncated"), [t("result.truncated_words")]),
    bars(resource.topics),
    el(
      "p",
      { class: "result-foot" },
      el("span", {}, t("result.model", { model: resource.model })),
      link && el("a", { href: page(`/texts/${encodeURIComponent(resource.id)}`), id: "permalink" }, t("result.link")),
    ),
  );
}

/** Bars for topics with probabilities; for topics without, the same bars empty. */
export function bars(topics) {
  return el("ol", { class: "bars" }, topics.map(bar));
}

function bar(topic) {
  const known = topic.probability !== undefined;
  const [probability, threshold] = percentPair(known ? topic.probability : topic.threshold, topic.threshold);
  const fill = el("span", { class: "bar-fill" });
  fill.style.setProperty("--share", known ? topic.probability : 0);
  const mark = el("span", { class: "bar-mark" });
  mark.style.setProperty("--share", topic.threshold);
  return el(
    "li",
    { class: `bar${topic.assigned ? " assigned" : ""}`, "data-topic": topic.topic ?? topic.id },
    el("span", { class: "bar-name" }, topic.assigned && icon("check-lg"), topicName(topic)),
    el("span", { class: "bar-share" }, known ? probability : "–"),
    el("span", { class: "bar-track", "aria-hidden": "true" }, fill, mark),
    el(
      "span",
      { class: "bar-note" },
      topic.assigned && el("span", { class: "bar-assigned" }, t("result.is_assigned")),
      t("result.threshold", { share: threshold }),
    ),
  );
}

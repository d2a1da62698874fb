// "Is this right?": what a person says of a result, to train with later.

import { api, request } from "./api.js";
import { button, el } from "./dom.js";
import { list } from "./format.js";
import { problemNotice } from "./problems.js";
import { topicName } from "./topics.js";
import { t } from "./words.js";

/** The question under a result, or what was answered before. */
export function judgement(resource) {
  const place = el("section", { class: "judge", "aria-label": t("judge.question") });
  const show = (...nodes) => {
    const hadFocus = place.contains(document.activeElement);
    place.replaceChildren(...nodes);
    if (hadFocus) {
      // What was pressed is gone; whoever works with the keyboard goes on from what came in its place.
      place.querySelector("input, button")?.focus();
    }
  };

  const ask = () =>
    show(
      el("span", { class: "judge-question" }, t("judge.question")),
      button(t("judge.right"), () => save(resource.assigned)),
      button(t("judge.correct"), correct),
    );

  const thank = () => {
    const names = resource.topics.filter((topic) => resource.feedback.includes(topic.topic)).map(topicName);
    const said = names.length > 0 ? t("judge.recorded", { n: names.length, topics: list(names) }) : t("judge.recorded_none");
    show(el("span", { class: "judge-said", role: "status" }, said), button(t("judge.change"), correct, "link"));
  };

  const start = () => (resource.feedback === null ? ask() : thank());

  function correct() {
    const right = resource.feedback ?? resource.assigned;
    const boxes = resource.topics.map((topic) => el("input", { type: "checkbox", class: "form-check-input", id: `right-${topic.topic}`, value: topic.topic, checked: right.includes(topic.topic) }));
    show(
      el(
        "fieldset",
        { class: "judge-topics" },
        el("legend", { class: "small-heading" }, t("judge.which")),
        resource.topics.map((topic, place) =>
          el("div", { class: "form-check" }, boxes[place], el("label", { class: "form-check-label", for: boxes[place].id }, topicName(topic))),
        ),
      ),
      el("p", { class: "hint" }, t("judge.none_hint")),
      el(
        "div",
        { class: "actions" },
        button(t("judge.save"), () => save(boxes.filter((box) => box.checked).map((box) => box.value)), "primary"),
        button(t("judge.cancel"), start),
      ),
    );
  }

  async function save(topics) {
    place.querySelector(".notice")?.remove();
    try {
      const { data } = await request(api(`/classifications/${encodeURIComponent(resource.id)}/feedback`), { method: "POST", json: { topics } });
      resource.feedback = data.feedback;
      thank();
    } catch (error) {
      place.append(problemNotice(error));
    }
  }

  start();
  return place;
}

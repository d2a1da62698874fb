// Which words of a text speak for a topic, and which against it: asked for on demand, shown in the text itself.

import { ApiError, api, request } from "./api.js";
import { button, el, icon, notice, say } from "./dom.js";
import { explainWaiting } from "./follow.js";
import { marked, saidOf } from "./marks.js";
import { percent } from "./format.js";
import { poll } from "./poll.js";
import { problemNotice } from "./problems.js";
import { topicName } from "./topics.js";
import { t, tOr } from "./words.js";

const REMEMBERED = "why";

let asking = null; // What is asked for at the moment; there is one text on a page, and only the last one counts.

/**
 * A button that shows the words of `resource` in `place`, or takes them away again. What was chosen last holds for the
 * next text as well, whose topics nobody has to wait for: its words come later. `onShown(shown)` hears when the marked text
 * comes and goes; `heading` is the level of the names of its fields.
 */
export function whyButton(resource, place, { onShown = () => {}, heading = "h3" } = {}) {
  const opener = el(
    "button",
    { type: "button", class: "btn btn-sm btn-outline-secondary why-button", id: "why", "aria-expanded": "false", on: { click: toggle } },
    icon("question-circle"),
    t("why.button"),
  );

  function toggle() {
    const shown = opener.getAttribute("aria-expanded") !== "true";
    remember(shown);
    set(shown);
  }

  function set(shown) {
    asking?.abort();
    asking = null;
    opener.setAttribute("aria-expanded", String(shown));
    if (shown) {
      show();
    } else {
      place.replaceChildren();
      onShown(false);
    }
  }

  async function show() {
    if (resource.explanation === null) {
      const mine = new AbortController();
      asking?.abort();
      asking = mine;
      const status = el("p", { class: "why-status", role: "status" });
      const box = el("div");
      place.replaceChildren(status, box);
      say(status, t("why.working"));
      const endWaiting = explainWaiting(box);
      try {
        const asked = await ask(resource.id, mine.signal);
        resource.explanation = asked.explanation;
        resource.explanation_error = asked.error;
      } catch (error) {
        if (!mine.signal.aborted && place.isConnected) {
          place.replaceChildren(troubleNotice(error, [button(t("retry"), show)]));
        }
        return;
      } finally {
        endWaiting();
      }
      // Another text may stand there by now, or nobody may want to know any more.
      if (mine.signal.aborted || !place.isConnected) {
        return;
      }
    }
    const found = resource.explanation !== null;
    place.replaceChildren(found ? explanationView(resource, heading) : failure(resource.explanation_error, show));
    onShown(found);
  }

  if (resource.explanation !== null || remembered()) {
    set(true);
  }
  return opener;
}

function remembered() {
  try {
    return sessionStorage.getItem(REMEMBERED) === "on";
  } catch {
    return false;
  }
}

function remember(shown) {
  try {
    sessionStorage.setItem(REMEMBERED, shown ? "on" : "off");
  } catch {
    // A browser that stores nothing asks again with each text.
  }
}

/** Resolves to what has become of the wish, when that is final. */
async function ask(id, signal) {
  const address = api(`/classifications/${encodeURIComponent(id)}/explanation`);
  const { data } = await request(address, { method: "POST", headers: { Prefer: "wait=10" }, signal });
  if (isFinal(data)) {
    return data;
  }
  return new Promise((resolve, reject) => {
    const polling = poll(() => request(address, { signal }), {
      onAnswer: (asked) => {
        if (isFinal(asked)) {
          resolve(asked);
        }
        return !isFinal(asked);
      },
      onError: (error, { hopeless }) => hopeless && reject(error),
    });
    signal.addEventListener("abort", () => {
      polling.stop();
      reject(signal.reason);
    });
  });
}

const isFinal = (asked) => asked.status === "succeeded" || asked.status === "failed";

function troubleNotice(error, actions) {
  const code = error instanceof ApiError ? error.problem.code : null;
  return code === "model_not_running" ? notice("warning", t("why.failed"), [t("why.error.model_gone")]) : problemNotice(error, actions);
}

function failure(error, again) {
  const reason = tOr(`why.error.${error?.code}`, error?.message ?? t("why.error.explanation_failed"));
  return notice("warning", t("why.failed"), [reason], [button(t("retry"), again)]);
}

/** The topics to choose from, the most probable one first; the text with its words marked for the chosen one. */
function explanationView(resource, heading) {
  const text = el("div", { class: "why-text" });
  const said = el("div", { class: "why-said", role: "status" });
  const show = (topic) => {
    text.replaceChildren(...marked(resource, resource.explanation[topic.topic], heading));
    said.replaceChildren(...saidOf(resource, resource.explanation[topic.topic], topicName(topic)));
  };
  let chosen = resource.topics[0];
  const choose = (topic) => {
    chosen = topic;
    show(topic);
  };
  const topics = el(
    "fieldset",
    { class: "why-topics", on: { mouseleave: () => show(chosen) } },
    el("legend", { class: "small-heading" }, t("why.heading")),
    resource.topics.map((topic, place) => choice(topic, place === 0, { choose, show })),
  );
  show(chosen);
  return el("section", { class: "why", "aria-label": t("why.heading") }, topics, text, said, legend());
}

function choice(topic, checked, { choose, show }) {
  const id = `why-${topic.topic}`;
  return el(
    "span",
    { class: "why-topic", on: { mouseenter: () => show(topic) } },
    el("input", {
      type: "radio",
      class: "visually-hidden",
      name: "why-topic",
      id,
      checked,
      on: { change: () => choose(topic), focus: () => show(topic) },
    }),
    el(
      "label",
      { for: id },
      topic.assigned && icon("check-lg"),
      el("span", {}, topicName(topic)),
      el("span", { class: "why-share" }, percent(topic.probability)),
    ),
  );
}

function legend() {
  return el(
    "p",
    { class: "why-legend" },
    el("span", {}, el("mark", { class: "for s3" }, t("why.sample")), t("why.legend_for")),
    el("span", {}, el("mark", { class: "against s3" }, t("why.sample")), t("why.legend_against")),
    el("span", {}, t("why.legend_strength")),
    el("span", { class: "why-numbers" }, t("why.legend_numbers")),
  );
}

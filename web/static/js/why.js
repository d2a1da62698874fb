// Which words of a text speak for a topic, and which against it: asked for on demand, shown in the text itself.

import { api, request } from "./api.js";
import { button, el, icon, notice } from "./dom.js";
import { ApiError } from "./errors.js";
import { explainWaiting } from "./follow.js";
import { marked, saidOf } from "./marks.js";
import { percent } from "./format.js";
import { poll } from "./poll.js";
import { mayBeRepeated, problemNotice } from "./problems.js";
import { topicName } from "./topics.js";
import { t, tOr } from "./words.js";

const REMEMBERED = "why";
const PAGE = "why";

const asking = new Map(); // What is asked for at the moment, by the scope: only the last wish of each counts.

/**
 * A button that shows the words of `resource` in `place`, or takes them away again. `onShown(shown)` hears when the text
 * comes and goes there; `heading` is the level of the names of its fields. Without more it is the one of the page, and
 * what was chosen last holds for the next text as well, whose topics nobody has to wait for: its words come later. One of
 * several has a `scope`, which begins its ids, the `address` of its explanation, and a `name` for those who hear the page.
 */
export function whyButton(resource, place, { onShown = () => {}, heading = "h3", scope = PAGE, address = ofText(resource), name = "" } = {}) {
  const opener = el(
    "button",
    { type: "button", class: "btn btn-sm btn-outline-secondary why-button", id: scope, "aria-expanded": "false", on: { click: toggle } },
    icon("question-circle"),
    t("why.button"),
    name && el("span", { class: "visually-hidden" }, ` ${name}`),
  );

  function toggle() {
    const shown = opener.getAttribute("aria-expanded") !== "true";
    if (scope === PAGE) {
      remember(shown);
    }
    set(shown);
  }

  function set(shown) {
    asking.get(scope)?.abort();
    asking.delete(scope);
    opener.setAttribute("aria-expanded", String(shown));
    if (shown) {
      show();
    } else {
      place.replaceChildren();
      onShown(false);
    }
  }

  async function show() {
    // The text stands there before its words are marked: what is below does not jump when they are.
    const view = explanationView(resource, { heading, scope, name });
    place.replaceChildren(view.element);
    onShown(true);
    if (resource.explanation !== null) {
      view.explain();
      return;
    }
    const mine = new AbortController();
    asking.get(scope)?.abort();
    asking.set(scope, mine);
    const endWaiting = explainWaiting(view.waiting);
    const isWanted = () => place.isConnected && !mine.signal.aborted;
    try {
      const asked = await ask(address, { signal: mine.signal, isWanted });
      resource.explanation = asked.explanation;
      resource.explanation_error = asked.error;
    } catch (error) {
      if (isWanted()) {
        fail(troubleNotice(error, mayBeRepeated(error) ? [button(t("retry"), show)] : []));
      }
      return;
    } finally {
      endWaiting();
    }
    // Another text may stand there by now, or nobody may want to know any more.
    if (isWanted()) {
      resource.explanation === null ? fail(failure(resource.explanation_error, show)) : view.explain();
    }
  }

  function fail(box) {
    place.replaceChildren(box);
    onShown(false);
  }

  if (resource.explanation !== null || (scope === PAGE && remembered())) {
    set(true);
  }
  return opener;
}

const ofText = ({ id }) => api(`/classifications/${encodeURIComponent(id)}/explanation`);

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

/** Resolves to what has become of the wish, when that is final; rejects when it is not wanted any more. */
async function ask(address, { signal, isWanted }) {
  const { data } = await request(address, { method: "POST", headers: { Prefer: "wait=10" }, signal });
  if (isFinal(data)) {
    return data;
  }
  return new Promise((resolve, reject) => {
    const polling = poll(() => request(address, { signal }), {
      onAnswer: (asked) => {
        if (isFinal(asked)) {
          resolve(asked);
        } else if (!isWanted()) {
          reject(new DOMException("nobody looks any more", "AbortError"));
        }
        return !isFinal(asked) && isWanted();
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

/**
 * The topics to choose from, the most probable one first, and the text: as it is, and with its words marked for the chosen
 * topic from explain() on. `waiting` is the place for what there is to say until then.
 */
function explanationView(resource, { heading, scope, name }) {
  const text = el("div", { class: "why-text" });
  const said = el("div", { class: "why-said", role: "status" }, el("p", { class: "why-status" }, t("why.working")));
  const waiting = el("div", { class: "why-waiting" });
  const show = (topic) => {
    const pieces = resource.explanation?.[topic.topic];
    text.replaceChildren(...marked(resource, pieces ?? [], heading));
    if (pieces) {
      said.replaceChildren(...saidOf(resource, pieces, topicName(topic)));
    }
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
    resource.topics.map((topic, place) => choice(topic, place === 0, { choose, show, scope })),
  );
  const label = name ? `${t("why.heading")}: ${name}` : t("why.heading");
  const element = el("section", { class: "why", "aria-label": label }, topics, text, said, waiting, legend());
  const explain = () => {
    element.classList.add("explained");
    show(chosen);
  };
  show(chosen);
  return { element, waiting, explain };
}

function choice(topic, checked, { choose, show, scope }) {
  const id = `${scope}-${topic.topic}`;
  return el(
    "span",
    { class: "why-topic", on: { mouseenter: () => show(topic) } },
    el("input", {
      type: "radio",
      class: "visually-hidden",
      name: `${scope}-topic`,
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

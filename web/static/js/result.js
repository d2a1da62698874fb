// The permanent page of one text.

import { makeAgain } from "./again.js";
import { api, request } from "./api.js";
import { copyButton } from "./copy.js";
import { byId, el, notice, say } from "./dom.js";
import { explainWaiting, follow, isFinal } from "./follow.js";
import { moment } from "./format.js";
import { judgement } from "./judge.js";
import { rowProblem } from "./problems.js";
import { resultView } from "./topics.js";
import { whyButton } from "./why.js";
import { t } from "./words.js";

const FIELDS = ["doc_text", "image2text", "speech2text"];
const id = byId("view").dataset.id;
const again = makeAgain(byId("notice"));

function showPost(resource) {
  const parts = FIELDS.filter((name) => resource[name]).map((name) => [
    el("h2", { class: "small-heading" }, t(`field.${name}`)),
    el("p", { class: "post-text", lang: "ru" }, resource[name]),
  ]);
  byId("post").replaceChildren(...parts.flat());
  const facts = [
    [t("fact.created"), moment(resource.created_at)],
    [t("fact.finished"), moment(resource.finished_at)],
    [t("fact.custom_id"), resource.custom_id],
    [t("fact.id"), resource.id],
  ].filter(([, value]) => value);
  byId("facts").replaceChildren(...facts.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

function showOutcome(resource) {
  showPost(resource);
  if (resource.status === "succeeded") {
    // The words are marked where the text stands already.
    const plain = el("div", {}, [...byId("post").childNodes]);
    const words = el("div", { class: "why-place" });
    byId("post").replaceChildren(words, plain);
    const onShown = (shown) => {
      plain.hidden = shown;
    };
    byId("post-tools").replaceChildren(whyButton(resource, words, { onShown, heading: "h2" }));
    byId("result").replaceChildren(
      resultView(resource, { link: false }),
      judgement(resource),
      el("div", { class: "result-tools" }, copyButton(resource)),
    );
  } else {
    const reason = resource.error ? rowProblem(resource.error) : t("state.cancelled");
    byId("notice").replaceChildren(notice("danger", t("result.failed"), [reason]));
  }
}

async function open() {
  again.stop();
  const status = byId("status");
  let endWaiting = () => {};
  try {
    let { data } = await request(api(`/classifications/${encodeURIComponent(id)}`));
    if (!isFinal(data)) {
      showPost(data);
      say(status, t("text.in_queue"));
      endWaiting = explainWaiting(byId("notice"));
      data = await follow(id, { onTrouble: (error) => say(status, error === null ? t("text.in_queue") : t("text.lost")) });
    }
    endWaiting();
    say(status, "");
    byId("notice").replaceChildren();
    showOutcome(data);
  } catch (error) {
    endWaiting();
    say(status, "");
    if (error.status === 404) {
      byId("notice").replaceChildren(notice("warning", t("result.missing"), [t("result.missing_words")]));
    } else {
      again.show(error, open);
    }
  }
}

open();

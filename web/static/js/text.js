// The first page: one text in, its topics out.

import { makeAgain } from "./again.js";
import { api, newKey, readiness, request } from "./api.js";
import { copyButton } from "./copy.js";
import { button, byId, el, notice, say } from "./dom.js";
import { NetworkError } from "./errors.js";
import { explainWaiting, follow, isFinal } from "./follow.js";
import { judgement } from "./judge.js";
import { poll } from "./poll.js";
import { isUnderWay, rowProblem } from "./problems.js";
import { bars, resultView, verdict } from "./topics.js";
import { whyButton } from "./why.js";
import { t } from "./words.js";

const FIELDS = ["doc_text", "image2text", "speech2text"];
const EXTRA_FIELDS = FIELDS.slice(1);
const DRAFT = "draft";
const MODEL_EVERY_MS = 2000;
const WORD = /[\p{L}\p{N}]+(?:[-'’][\p{L}\p{N}]+)*/gu;

const form = byId("form");
const status = byId("status");
const noticePlace = byId("notice");
const resultPlace = byId("result");
const again = makeAgain(noticePlace);

let topics = []; // Of the active model, to show empty bars.
let attempt = null; // The request under way: {body, controller}.
let shown = null; // The result on the page: {resource, words}, the words being those that it is of.
let key = { body: null, value: null }; // One key per body, so that sending it again after a lost answer counts once.

const isShown = (name) => !EXTRA_FIELDS.includes(name) || !byId(`block-${name}`).hidden;
const readPost = () => Object.fromEntries(FIELDS.filter(isShown).map((name) => [name, byId(name).value]));
/** What two posts have alike that the model reads alike: an empty field is as good as none. */
const wordsOf = (post) => JSON.stringify(FIELDS.map((name) => post[name] ?? ""));

function showField(name, shown) {
  byId(`block-${name}`).hidden = !shown;
  const opener = form.querySelector(`[data-show="${name}"]`);
  opener.hidden = shown;
  opener.setAttribute("aria-expanded", String(shown));
}

function fill(post) {
  for (const name of FIELDS) {
    byId(name).value = post[name] ?? "";
  }
  for (const name of EXTRA_FIELDS) {
    showField(name, Boolean(post[name]));
  }
  onTyping();
}

function onTyping() {
  const text = Object.values(readPost()).join("\n");
  byId("count").textContent = t("text.words", { n: text.match(WORD)?.length ?? 0 });
  try {
    sessionStorage.setItem(DRAFT, JSON.stringify(readPost()));
  } catch {
    // A browser that stores nothing loses only the draft, on the way to another page.
  }
  compare();
}

/** A result stays while its text is changed, and is said to be of the one before; only of what stands there one may judge. */
function compare() {
  const stale = isStale();
  if (resultPlace.classList.contains("stale") !== stale) {
    resultPlace.classList.toggle("stale", stale);
    if (attempt === null) {
      sayResult();
    }
  }
}

const isStale = () => shown !== null && shown.words !== wordsOf(readPost());

/** All of it is on the page to be seen; the live region repeats it for those who do not see the page. */
function sayResult() {
  const words = isStale() ? t("text.stale") : verdict(shown.resource);
  status.replaceChildren(el("span", { class: "visually-hidden" }, words));
}

/** Whoever takes another text altogether has no use for what belongs to the one before. */
function startAnew() {
  attempt?.controller.abort();
  attempt = null;
  form.removeAttribute("aria-busy");
  // Without topics the notice is not of a text: it says why there are none, and whether they are asked for again.
  if (topics.length > 0) {
    again.stop();
    noticePlace.replaceChildren();
  }
  say(status, "");
  showEmpty();
}

function restoreDraft() {
  let draft = null;
  try {
    draft = JSON.parse(sessionStorage.getItem(DRAFT));
  } catch {
    // The same as above.
  }
  fill(draft ?? {});
}

async function send() {
  const post = readPost();
  if (Object.values(post).every((text) => text.trim() === "")) {
    noticePlace.replaceChildren(notice("warning", t("text.empty"), [t("text.empty_words")]));
    byId("doc_text").focus();
    return;
  }
  const body = JSON.stringify(post);
  if (attempt?.body === body) {
    return;
  }
  attempt?.controller.abort();
  const mine = { body, controller: new AbortController() };
  attempt = mine;
  if (key.body !== body) {
    key = { body, value: newKey() };
  }
  begin();
  const endWaiting = explainWaiting(noticePlace);
  try {
    const resource = await classify(post, mine.controller.signal);
    endKey(body);
    if (attempt === mine) {
      endWaiting();
      showResource(resource, post);
    }
  } catch (error) {
    if (!(error instanceof NetworkError || isUnderWay(error))) {
      endKey(body);
    }
    if (attempt === mine) {
      endWaiting();
      showEmpty();
      say(status, "");
      // Sent by itself when the server is back, unless somebody has gone on writing meanwhile.
      again.show(error, () => JSON.stringify(readPost()) === body && send(), { press: send });
    }
  } finally {
    endWaiting();
    if (attempt === mine) {
      attempt = null;
      form.removeAttribute("aria-busy");
    }
  }
}

/** Unless another text has one by now. */
function endKey(body) {
  if (key.body === body) {
    key = { body: null, value: null };
  }
}

async function classify(post, signal) {
  const { data } = await request(api("/classifications"), {
    method: "POST",
    json: post,
    headers: { Prefer: "wait=10", "Idempotency-Key": key.value },
    signal,
  });
  if (isFinal(data)) {
    return data;
  }
  // The result of another text must not stand under these words for long.
  showEmpty();
  say(status, t("text.in_queue"));
  const onTrouble = (error) => say(status, error === null ? t("text.in_queue") : t("text.lost"));
  return follow(data.id, { signal, onTrouble });
}

function begin() {
  again.stop();
  form.setAttribute("aria-busy", "true");
  resultPlace.classList.add("pending");
  noticePlace.replaceChildren();
  say(status, t("text.working"));
}

function showResource(resource, post) {
  if (resource.status !== "succeeded") {
    const reason = resource.error ? rowProblem(resource.error) : t("state.cancelled");
    showError(notice("danger", t("result.failed"), [reason], [button(t("retry"), send)]));
    return;
  }
  shown = { resource, words: wordsOf(post) };
  resultPlace.classList.remove("pending");
  resultPlace.classList.toggle("stale", isStale());
  const words = el("div", { class: "why-place" });
  const tools = el("div", { class: "result-tools" }, whyButton(resource, words), copyButton(resource));
  // One of the two is seen at a time, and both have the same place: nothing jumps when they change.
  const judge = el("div", { class: "judge-or-stale" }, judgement(resource), el("p", { class: "stale-words" }, t("text.stale")));
  // The words come last, and may come late: nothing stands below them that could jump.
  resultPlace.replaceChildren(resultView(resource), judge, tools, words);
  sayResult();
  if (window.matchMedia("(max-width: 61.99em)").matches) {
    byId("result-pane").scrollIntoView({ block: "start" });
  }
}

function showError(box) {
  showEmpty();
  say(status, "");
  noticePlace.replaceChildren(box);
}

/** Without a result the bars stand there empty: they say what will come, and nothing jumps when it does. */
function showEmpty() {
  shown = null;
  resultPlace.classList.remove("pending", "stale");
  resultPlace.replaceChildren(
    ...(topics.length > 0 ? [el("p", { class: "verdict empty" }, t("result.nothing_yet")), bars(topics)] : []),
  );
}

async function loadTopics() {
  try {
    const { data } = await request(api("/topics"));
    topics = data.items;
    if (!resultPlace.hasChildNodes()) {
      showEmpty();
    }
  } catch (error) {
    if (!attempt && !resultPlace.hasChildNodes()) {
      if (error.status === 404) {
        awaitModel();
      } else {
        again.show(error, retryTopics);
      }
    }
  }
}

/** There never was a worker, who brings the model: say so until there is one. */
function awaitModel() {
  const box = notice("warning", t("model.missing"), [t("model.missing_words")]);
  noticePlace.replaceChildren(box);
  poll(async () => ({ data: await readiness(), retryAfter: null }), {
    first: MODEL_EVERY_MS,
    onAnswer: ({ checks }) => {
      if (checks.worker?.ok !== true) {
        return true;
      }
      box.remove();
      loadTopics();
      return false;
    },
    onError: () => {}, // What is sent meanwhile says that the server is gone.
  });
}

function retryTopics() {
  again.stop();
  noticePlace.replaceChildren();
  loadTopics();
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
form.addEventListener("input", onTyping);
form.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    send();
  }
});
for (const opener of form.querySelectorAll("[data-show]")) {
  opener.addEventListener("click", () => {
    showField(opener.dataset.show, true);
    byId(opener.dataset.show).focus();
    onTyping();
  });
}
for (const closer of form.querySelectorAll("[data-hide]")) {
  closer.addEventListener("click", () => {
    showField(closer.dataset.hide, false);
    form.querySelector(`[data-show="${closer.dataset.hide}"]`).focus();
    onTyping();
  });
}
for (const example of document.querySelectorAll("[data-example]")) {
  example.addEventListener("click", () => {
    startAnew();
    fill(example.dataset);
    byId("doc_text").focus();
  });
}
byId("clear").addEventListener("click", () => {
  startAnew();
  fill({});
  byId("doc_text").focus();
});

restoreDraft();
loadTopics();

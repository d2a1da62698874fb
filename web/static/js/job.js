// One file: its progress until the end, what can be done with it, and its rows.

import { COUNTING_MS, api, newKey, page, readiness, request } from "./api.js";
import { makeChoice } from "./choice.js";
import { byId, el, notice, put, say, setTitle } from "./dom.js";
import { makeDownloads } from "./downloads.js";
import { makeFilters } from "./filters.js";
import { workerNotice } from "./follow.js";
import { measure, moment, number, progressPercent, timeLeft, wholePercent } from "./format.js";
import { HEAT_ROWS, makeHeat } from "./heat.js";
import { doneRows, isOver, jobName, progressWords, setBar, stateBadge } from "./jobs.js";
import { problemNotice } from "./problems.js";
import { compareWith, offerRerun } from "./rerun.js";
import { makeRows } from "./rows.js";
import { makeSummary } from "./summary.js";
import { watch } from "./watch.js";
import { t } from "./words.js";

// Rows that failed for these reasons may be luckier a second time; the others cannot be read.
const WORTH_ANOTHER_TRY = new Set(["worker_lost", "model_failed"]);

const view = byId("view");
const deleteWords = byId("delete-words").textContent;
const id = view.dataset.id;
const address = api(`/jobs/${encodeURIComponent(id)}`);
const choice = makeChoice();
const filters = makeFilters(choice);
const heat = makeHeat(address, choice);
const rows = makeRows(address, choice, { onStop: heat.stopSearch, onShown: drawHeat });
const summary = makeSummary(address, choice, { onData: showSummary, onSettled: showRows });
const downloads = makeDownloads(address, choice);

let known = null; // The job as last heard of.
let topics = [];
let computed = 0;
let idleSince = null; // When the count of finished rows last changed.
const retryKey = newKey(); // A retry that is sent twice is still one job.
let isStopping = false;
let isRemoving = false;
let refusal = null; // The notice of what was done last, until the next is: the news of the job are none of its business.
let trouble = null; // The notice that there are no news, until there are some.

function showJob(job) {
  const before = known;
  known = job;
  showTroubleBox(null);
  byId("job").hidden = false;
  if (isOver(job) && doneRows(job) === 0) {
    showRows();
  }
  byId("heading").textContent = jobName(job);
  if (before?.status !== job.status) {
    byId("state").replaceChildren(stateBadge(job.status));
    say(byId("status"), t("job.state_is", { state: t(`state.${job.status}`) }));
  } else if (!isOver(job) && quarter(job) > quarter(before)) {
    // Those who hear the page are told of each quarter; every row would be too much.
    say(byId("status"), progressLine(job));
  }
  setBar(byId("bar"), doneRows(job), job.rows.total, job.rows.failed);
  byId("bar").classList.toggle("active", job.status === "running");
  byId("progress-words").textContent = progressLine(job);
  showNumbers(job);
  downloads.setJob(job);
  if (isOver(job) && document.activeElement === byId("cancel")) {
    byId("delete").focus({ preventScroll: true });
  }
  byId("cancel").hidden = isOver(job);
  // Not disabled: it would lose the focus of whoever has pressed it.
  byId("cancel").setAttribute("aria-disabled", String(isStopping || job.status === "cancelling"));
  setTitle(titleOf(job));
  rows.follow(job, before);
  summary.follow(job, before);
  watchForWorker(job, before);
  if (isOver(job) && before?.status !== job.status) {
    offerRerun(job, address);
    if (job.layout.rerun_of) {
      compareWith(job, job.layout.rerun_of);
    }
  }
}

/** The rows stand below the charts, and come after them: else they would be pushed down as soon as there are charts. */
function showRows() {
  byId("rows").hidden = false;
}

const quarter = (job) => Math.floor(wholePercent(doneRows(job), job.rows.total) / 25);

function progressLine(job) {
  const parts = [progressWords(job)];
  if (job.status === "running" && job.eta_seconds !== null) {
    parts.push(timeLeft(job.eta_seconds));
  }
  return parts.join(", ");
}

function titleOf(job) {
  const name = jobName(job);
  if (isOver(job)) {
    return `${t(`job.title_${job.status}`)} · ${name}`;
  }
  return job.status === "running" ? `${progressPercent(doneRows(job), job.rows.total)} · ${name}` : `${t(`state.${job.status}`)} · ${name}`;
}

function showNumbers(job) {
  const { succeeded, failed, queued } = job.rows;
  const facts = [
    ["succeeded", number(succeeded)],
    ["failed", number(failed), failed > 0 ? "bad" : ""],
    ["cached", job.rows.cached > 0 ? number(job.rows.cached) : null],
    [job.status === "cancelled" ? "dropped" : "queued", number(queued)],
    ["speed", job.rows_per_second ? t("job.per_second", { n: measure(job.rows_per_second) }) : null],
    ["position", job.status === "queued" && job.queue_position > 0 ? number(job.queue_position) : null],
    ["model", job.model],
    ["created", moment(job.created_at)],
    ["finished", moment(job.finished_at)],
    ["expires", moment(job.expires_at)],
    ["file", job.name && job.filename ? job.filename : null],
    ["retry_of", originLink(job.layout.retry_of)],
    ["rerun_of", originLink(job.layout.rerun_of)],
  ].filter(([, value]) => value);
  byId("numbers").replaceChildren(
    ...facts.map(([key, value, look]) =>
      el("div", { class: look || null, "data-fact": key }, el("dt", {}, t(`job.${key}`)), el("dd", {}, value)),
    ),
  );
}

function originLink(origin) {
  return origin ? el("a", { href: page(`/jobs/${encodeURIComponent(origin)}`) }, t("job.origin")) : null;
}

/** A job that stands still is either behind others or without a worker; only the second needs to be said. */
async function watchForWorker(job, before) {
  if (isOver(job) || !before || doneRows(job) !== doneRows(before)) {
    idleSince = performance.now();
    byId("worker-notice").replaceChildren();
    return;
  }
  if (performance.now() - idleSince > 4000) {
    try {
      const { checks } = await readiness();
      const [box] = workerNotice(checks);
      box ? put(byId("worker-notice"), box) : byId("worker-notice").replaceChildren();
    } catch {
      // The polling itself says when the server is gone.
    }
  }
}

function showTrouble(error, { hopeless }) {
  if (error.status === 404 && isRemoving) {
    return; // As it should be; the answer to that leads away from here.
  }
  if (error.status === 404) {
    rows.stop();
    summary.stop();
    ["job", "compare", "summary", "rows"].forEach((part) => {
      byId(part).hidden = true;
    });
    byId("notice").replaceChildren(notice("warning", t("job.missing"), [t("job.missing_words")]));
    setTitle(t("job.missing"));
  } else if (hopeless || known === null) {
    showTroubleBox(problemNotice(error, [], hopeless ? [] : [t("error.again")]));
  } else {
    showTroubleBox(notice("warning", t("job.lost"), [t("job.lost_words")]));
  }
}

/** The same once more is not put there anew: it would be spoken again. */
function showTroubleBox(box) {
  if (trouble?.textContent !== box?.textContent) {
    trouble?.remove();
    trouble = box;
    byId("notice").append(...(box ? [box] : []));
  }
}

/** What became of the last thing that was done here: an error, or null when something begins anew. */
function showRefusal(error) {
  refusal?.remove();
  refusal = error && problemNotice(error);
  byId("notice").prepend(...(refusal ? [refusal] : []));
}

async function cancel() {
  if (byId("cancel").getAttribute("aria-disabled") === "true") {
    return;
  }
  isStopping = true;
  byId("cancel").setAttribute("aria-disabled", "true");
  showRefusal(null);
  try {
    await request(`${address}/cancel`, { method: "POST" });
    watching.now();
  } catch (error) {
    isStopping = false;
    byId("cancel").setAttribute("aria-disabled", "false");
    showRefusal(error);
  }
}

/** What is known of the file as a whole: what there is to choose from, and whether a second try is worth it. */
function showSummary(data, its) {
  topics = its;
  computed = data.computed;
  filters.topics(topics);
  byId("retry").hidden = !isOver(known) || !data.failures.some(({ code }) => WORTH_ANOTHER_TRY.has(code));
  drawHeat();
}

function drawHeat() {
  heat.follow(topics, isOver(known) ? "over" : Math.min(computed, HEAT_ROWS), known.rows.total);
}

async function retry() {
  byId("retry").disabled = true;
  showRefusal(null);
  try {
    const { data } = await request(`${address}/retry`, { method: "POST", headers: { "Idempotency-Key": retryKey } });
    window.location.assign(page(`/jobs/${encodeURIComponent(data.id)}`));
  } catch (error) {
    byId("retry").disabled = false;
    showRefusal(error);
  }
}

/** All rows go with a file: of a large one that takes a while. One that is gone already is as deleted as it can be. */
async function remove() {
  showRemoving(true);
  showRefusal(null);
  try {
    await request(address, { method: "DELETE", limit: COUNTING_MS, also: [404] });
    watching.stop();
    window.location.replace(view.dataset.files); // The way back would lead to what is not there any more.
  } catch (error) {
    showRemoving(false);
    showRefusal(error);
  }
}

/** Not disabled, for the same reason as the other: it keeps the focus. */
function showRemoving(now) {
  isRemoving = now;
  byId("delete").setAttribute("aria-disabled", String(now));
  byId("delete").setAttribute("aria-busy", String(now));
  byId("delete-words").textContent = now ? t("job.deleting") : deleteWords;
  say(byId("status"), now ? t("job.deleting") : "");
}

choice.onSettle(drawHeat);
byId("cancel").addEventListener("click", cancel);
byId("retry").addEventListener("click", retry);
byId("delete").addEventListener("click", () => {
  if (isRemoving) {
    return;
  }
  byId("question").returnValue = "";
  byId("question").showModal();
});
byId("question").addEventListener("close", () => {
  if (byId("question").returnValue === "delete") {
    remove();
  }
});

const watching = watch(address, {
  onAnswer: (job) => {
    showJob(job);
    return !isOver(job);
  },
  onError: showTrouble,
});

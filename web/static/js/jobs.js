// A job in a list and its state as a badge, wherever they appear.

import { page } from "./api.js";
import { el, icon } from "./dom.js";
import { moment, number, progressPercent, wholePercent } from "./format.js";
import { t } from "./words.js";

const FINAL = new Set(["succeeded", "partially_succeeded", "failed", "cancelled"]);

const STATE_LOOKS = {
  queued: ["hourglass-split", "waiting"],
  running: ["arrow-repeat", "active"],
  succeeded: ["check-circle", "good"],
  partially_succeeded: ["exclamation-triangle", "partly"],
  failed: ["exclamation-circle", "bad"],
  cancelling: ["arrow-repeat", "waiting"],
  cancelled: ["slash-circle", "waiting"],
};

export const isOver = (job) => FINAL.has(job.status);

export const jobName = (job) => job.name || job.filename || t("job.unnamed");

export const doneRows = (job) => job.rows.succeeded + job.rows.failed;

/** The state in words, with a shape and a colour. */
export function stateBadge(state) {
  const [shape, look] = STATE_LOOKS[state] ?? ["info-circle", "waiting"];
  return el("span", { class: `state ${look}`, "data-state": state }, icon(shape), t(`state.${state}`));
}

/** Set a progress bar made of one part, or of two where the second shows the rows that failed among those `done`. */
export function setBar(bar, done, total, failed = 0) {
  const [part, failedPart] = bar.querySelectorAll(".progress-bar");
  const width = (rows) => `${total > 0 ? (rows / total) * 100 : 0}%`;
  part.style.width = width(done - failed);
  if (failedPart) {
    failedPart.style.width = width(failed);
  }
  bar.setAttribute("aria-valuenow", String(wholePercent(done, total)));
}

/** Jobs as a table that turns into blocks on a narrow screen. */
export function jobsTable(jobs) {
  const heads = ["name", "state", "rows", "created"].map((key) => el("th", { scope: "col" }, t(`jobs.${key}`)));
  return el(
    "table",
    { class: "table list-table jobs-table" },
    el("thead", {}, el("tr", {}, heads)),
    el("tbody", {}, jobs.map(jobRow)),
  );
}

export function jobRow(job) {
  const { total, failed } = job.rows;
  const rows = isOver(job) && job.status !== "cancelled" ? t("jobs.count", { n: total }) : t("jobs.of", { done: doneRows(job), total });
  return el(
    "tr",
    { "data-job": job.id },
    el("td", { class: "cell-main" }, el("a", { href: page(`/jobs/${encodeURIComponent(job.id)}`) }, jobName(job))),
    el("td", {}, stateBadge(job.status), !isOver(job) && el("span", { class: "hint inline" }, progressPercent(doneRows(job), job.rows.total))),
    el("td", { class: "cell-number" }, rows, failed > 0 && el("span", { class: "failed-words" }, t("jobs.failed", { n: failed }))),
    el("td", { class: "cell-date" }, moment(job.created_at)),
  );
}

/** Rows of the progress as one sentence. */
export const progressWords = (job) =>
  t("job.done_of", { done: number(doneRows(job)), total: number(job.rows.total), share: progressPercent(doneRows(job), job.rows.total) });

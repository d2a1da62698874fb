// What the service is doing now: workers, what waits, what is in work. Asked again and again while the page is open.

import { api, readiness, request } from "./api.js";
import { byId, el, notice, put } from "./dom.js";
import { workerNotice } from "./follow.js";
import { duration, number } from "./format.js";
import { jobsTable } from "./jobs.js";
import { poll } from "./poll.js";
import { problemNotice } from "./problems.js";
import { t } from "./words.js";

const EVERY_MS = 4000;
const FILES = 5;

/** Takes over the part of the page that tells of the service. */
export function followService() {
  poll(ask, {
    first: EVERY_MS,
    onAnswer: ({ checks, jobs }) => {
      const place = byId("service-notice");
      const said = [...workerNotice(checks), ...redisNotice(checks)];
      said.length > 0 ? put(place, el("div", {}, said)) : place.replaceChildren();
      byId("service").replaceChildren(...tiles(checks));
      const list = byId("jobs");
      // The table is made anew only when it tells something new: a link that has the focus keeps it.
      if (list.dataset.shown !== JSON.stringify(jobs)) {
        list.dataset.shown = JSON.stringify(jobs);
        list.replaceChildren(...(jobs.length > 0 ? [el("h3", { class: "small-heading" }, t("service.files")), jobsTable(jobs)] : []));
      }
      return true;
    },
    onError: (error, { hopeless }) => put(byId("service-notice"), problemNotice(error, [], hopeless ? [] : [t("error.again")])),
  });
}

async function ask() {
  const { checks } = await readiness();
  const { data } = checks.postgres?.ok === false ? { data: { items: [] } } : await request(api(`/jobs?status=queued,running,cancelling&limit=${FILES}`));
  return { data: { checks, jobs: data.items }, retryAfter: null };
}

function redisNotice(checks) {
  return checks.redis?.ok === false && checks.postgres?.ok !== false ? [notice("warning", t("service.no_redis"), [t("service.no_redis_words")])] : [];
}

function tiles({ postgres, redis, worker, queue }) {
  const state = (check) => [t(check?.ok ? "service.ok" : "service.down"), check?.ok ? "good" : "bad"];
  const oldest = queue?.oldest_waiting_seconds;
  const known = [
    ["alive", number(worker?.alive ?? 0), worker?.alive > 0 ? "good" : "bad"],
    ["waiting", queue === undefined ? "–" : number(queue.waiting_rows)],
    ["running", queue === undefined ? "–" : number(queue.running_rows)],
    ["oldest", typeof oldest === "number" ? duration(oldest) : t("service.nothing_waits")],
    ["postgres", ...state(postgres)],
    ["redis", ...state(redis)],
  ];
  return known.map(([key, value, look]) => el("div", { "data-tile": key, class: look ?? null }, el("dt", {}, t(`service.${key}`)), el("dd", {}, value)));
}

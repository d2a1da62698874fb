// The same rows by another model, and how far the two agree.

import { COUNTING_MS, api, newKey, page, request } from "./api.js";
import { byId, el } from "./dom.js";
import { excerpt, list, number, percent } from "./format.js";
import { problemNotice } from "./problems.js";
import { topicName } from "./topics.js";
import { t } from "./words.js";

const CHANGED = 20;
const EXCERPT = 140;

/** Offers the models that did not compute the job, once it is over; compares it with the one that it repeats. */
export async function offerRerun(job, address) {
  try {
    const { data } = await request(api("/models"));
    const isOther = ({ name, version, sha256 }) => (job.model_sha256 ? sha256 !== job.model_sha256 : `${name}@${version}` !== job.model);
    const models = data.items.filter(isOther);
    // By its sha256, for two trainings may go by one name; the name tells them apart only where it is of one alone.
    const labelled = ({ name, version, sha256 }) => {
      const namesakes = data.items.filter((model) => model.name === name && model.version === version);
      return namesakes.length > 1 ? `${name}@${version} · ${sha256.slice(0, 8)}` : `${name}@${version}`;
    };
    byId("rerun-model").replaceChildren(...models.map((model) => el("option", { value: model.sha256 }, labelled(model))));
    byId("rerun").hidden = models.length === 0;
  } catch {
    // Without the list of models there is nothing to offer, and everything else goes on.
  }
  const start = byId("rerun-start");
  // A rerun that is sent twice is still one job, also after an answer that was lost; a refusal stores nothing under the key.
  let key = newKey();
  byId("rerun-form").addEventListener("change", () => {
    key = newKey();
  });
  byId("rerun-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    if (start.getAttribute("aria-disabled") === "true") {
      return;
    }
    start.setAttribute("aria-disabled", "true");
    byId("rerun-notice").replaceChildren(el("p", { class: "hint" }, t("rerun.working")));
    try {
      const json = { model: byId("rerun-model").value };
      const { data } = await request(`${address}/rerun`, { method: "POST", json, headers: { "Idempotency-Key": key } });
      byId("rerun-notice").replaceChildren();
      window.location.assign(page(`/jobs/${encodeURIComponent(data.id)}`));
    } catch (error) {
      byId("rerun-notice").replaceChildren(problemNotice(error));
    }
    start.setAttribute("aria-disabled", "false");
  });
}

export async function compareWith(job, other) {
  const address = api(`/jobs/${encodeURIComponent(other)}/compare/${encodeURIComponent(job.id)}?limit=${CHANGED}`);
  try {
    const [{ data }, names] = await Promise.all([request(address, { limit: COUNTING_MS }), topicNames()]);
    byId("compare").hidden = false;
    byId("compare-body").replaceChildren(...comparison(data, names));
  } catch (error) {
    // The first job may be deleted, or not computed by any model yet: then there is nothing to compare with.
    byId("compare").hidden = ![404, 409].includes(error.status);
    byId("compare-body").replaceChildren(el("p", { class: "hint" }, t("compare.impossible")));
  }
}

/** Names of the topics of all models: the comparison itself names only those that both models have. */
async function topicNames() {
  try {
    const { data } = await request(api("/models"));
    return new Map(data.items.flatMap(({ topics }) => topics).map((topic) => [topic.id, topicName(topic)]));
  } catch {
    return new Map(); // Then topics go by their ids, and everything else goes on.
  }
}

function comparison(data, names) {
  const said = ({ assigned }) => (assigned.length > 0 ? list(assigned.map((id) => names.get(id) ?? id)) : t("history.no_topic"));
  const heads = ["topic", "agreement", "both", "only_first", "only_second"];
  return [
    el("p", {}, t("compare.words", { first: data.first.model, second: data.second.model, n: data.rows.compared, same: data.agreement === null ? "–" : percent(data.agreement) })),
    el(
      "div",
      { class: "table-scroll", tabindex: "0", role: "region", "aria-label": `${t("compare.topic")}: ${t("model.table")}` },
      el(
        "table",
        { class: "table card-table" },
        el("thead", {}, el("tr", {}, heads.map((key) => el("th", { scope: "col" }, t(`compare.${key}`))))),
        el(
          "tbody",
          {},
          data.topics.map((topic) =>
            el(
              "tr",
              {},
              el("th", { scope: "row" }, topicName(topic)),
              el("td", { class: "cell-number" }, topic.agreement === null ? "–" : percent(topic.agreement)),
              [topic.both, topic.only_first, topic.only_second].map((rows) => el("td", { class: "cell-number" }, number(rows))),
            ),
          ),
        ),
      ),
    ),
    el("h3", { class: "small-heading" }, t("compare.changed", { n: data.rows.changed })),
    el(
      "ul",
      { class: "changed-rows" },
      data.items.map((row) =>
        el(
          "li",
          {},
          el("span", { class: "hint inline" }, `${number(row.row)} `),
          el("span", { lang: "ru" }, excerpt(row.doc_text || row.image2text || row.speech2text, EXCERPT)),
          el("div", { class: "hint" }, `${said(row.first)} → ${said(row.second)}`),
        ),
      ),
    ),
  ];
}

// What went wrong, in words that help.

import { ApiError, NetworkError } from "./api.js";
import { notice, sentence } from "./dom.js";
import { t, tOr } from "./words.js";

/** {title, lines} for anything that `request` or an upload throws. */
export function describe(error) {
  if (error instanceof NetworkError) {
    return { title: t("error.network"), lines: [t("error.network_words")] };
  }
  if (!(error instanceof ApiError)) {
    return { title: t("error.page"), lines: [String(error?.message ?? error)] };
  }
  const { status, problem } = error;
  const title = tOr(`error.${status}`, status >= 500 ? t("error.server") : t("error.refused"));
  const known = (problem.errors ?? []).length === 0 && tOr(`file.${problem.code}`, "");
  const details = [tOr(`error.help_${status}`, ""), known, ...(problem.errors ?? []).map(describePart), problem.detail];
  const lines = [...new Set(details.filter(Boolean))].slice(0, 8);
  if (error.retryAfter !== null && status === 429) {
    lines.push(t("error.retry_after", { n: Math.ceil(error.retryAfter) }));
  }
  return { title, lines: lines.length > 0 ? lines : [t("error.no_detail", { status: String(status) })] };
}

/** The same as a box with buttons; `more` are lines of the caller's own. */
export function problemNotice(error, actions = [], more = []) {
  const { title, lines } = describe(error);
  return notice("danger", title, [...lines.map(sentence), ...more], actions);
}

/** Why a text or a row has no topics: the page's own words for the codes it knows, and what the API says. */
export function rowProblem(error) {
  return tOr(`row.${error.code}`, error.message ?? error.code);
}

/** What is wrong with a file is said in the page's words; the sentence of the server follows, which knows the place. */
function describePart({ code, message }) {
  return tOr(`file.${code}`, tOr(`row.${code}`, message));
}

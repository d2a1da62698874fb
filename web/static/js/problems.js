// What went wrong, in words that help.

import { ApiError, NetworkError } from "./api.js";
import { el, notice, sentence } from "./dom.js";
import { t, tOr } from "./words.js";

// What the page says of these leaves nothing to add.
const SAYS_ALL = new Set([401]);
const ROW_SAYS_ALL = new Set(["empty_text", "worker_lost"]);

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
  const detail = SAYS_ALL.has(status) ? "" : problem.detail;
  const details = [tOr(`error.help_${status}`, ""), known, ...(problem.errors ?? []).map(describePart), detail];
  const lines = [...new Set(details.filter(Boolean))].slice(0, 8);
  if (error.retryAfter !== null && status === 429) {
    lines.push(t("error.retry_after", { n: Math.ceil(error.retryAfter) }));
  }
  return { title, lines: lines.length > 0 ? lines : [t("error.no_detail", { status: String(status) })] };
}

/** The same as a box with buttons; `more` are lines of the caller's own. */
export function problemNotice(error, actions = [], more = []) {
  const { title, lines } = describe(error);
  return notice("danger", title, [...lines.map(whoSays), ...more], actions);
}

/** A sentence of the server in its own language is said to be one: it stands among those of the page. */
function whoSays(line) {
  const said = sentence(line);
  return said instanceof Node ? el("span", { class: "server-says" }, t("error.server_says"), " ", said) : said;
}

/** Why a text or a row has no topics: the page's own words for the codes it knows, and what the API says. */
export function rowProblem(error) {
  return tOr(`row.${error.code}`, error.message ?? error.code);
}

/** What the server adds to these words, as a rule where in the text it is; null if nothing. */
export function rowDetail(error) {
  return error.message && error.message !== rowProblem(error) && !ROW_SAYS_ALL.has(error.code) ? sentence(error.message) : null;
}

/** What is wrong with a file is said in the page's words; the sentence of the server follows, which knows the place. */
function describePart({ code, message }) {
  return tOr(`file.${code}`, tOr(`row.${code}`, message));
}

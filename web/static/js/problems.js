// What went wrong, in words that help.

import { el, notice, sentence } from "./dom.js";
import { ApiError, NetworkError, UnreadableFileError } from "./errors.js";
import { isSignedIn } from "./session.js";
import { t, tOr } from "./words.js";

// What the page says of these leaves nothing to add.
const SAYS_ALL = new Set([401]);
// Of these the page says what to do, whatever exactly it was; what the server says to that is for whoever runs it.
const SAYS_ENOUGH = new Set([403, 404, 408, 429, 500, 503]);
const ROW_SAYS_ALL = new Set(["empty_text", "worker_lost"]);

/** Whether an earlier request with the same key is still being carried out. */
export const isUnderWay = (error) => error instanceof ApiError && error.status === 409 && error.problem.code === "key_in_flight";

/** Whether the same, sent once more by hand, may be answered otherwise; whose session has ended is then asked for the key. */
export function mayBeRepeated(error) {
  if (!(error instanceof ApiError)) {
    return !(error instanceof UnreadableFileError);
  }
  return error.status >= 500 || [408, 429].includes(error.status) || isUnderWay(error) || (error.status === 401 && isSignedIn());
}

/** {title, lines, aside} for anything that `request` or an upload throws; `aside` is what the server adds to that, if anything. */
export function describe(error) {
  if (error instanceof NetworkError) {
    return { title: t("error.network"), lines: [t("error.network_words")], aside: "" };
  }
  if (error instanceof UnreadableFileError) {
    return { title: t("error.file"), lines: [t("error.file_words")], aside: "" };
  }
  if (!(error instanceof ApiError)) {
    return { title: t("error.page"), lines: [String(error?.message ?? error)], aside: "" };
  }
  const { status, problem } = error;
  const title = tOr(`error.${status}`, status >= 500 ? t("error.server") : t("error.refused"));
  const parts = (problem.errors ?? []).length > 0 ? problem.errors : [problem];
  const saysEnough = SAYS_ENOUGH.has(status) || parts.every(({ code }) => ownWords(code));
  const detail = SAYS_ALL.has(status) ? "" : (problem.detail ?? "");
  const found = [tOr(`error.help_${status}`, ""), ...parts.map((part) => ownWords(part.code) || part.message), saysEnough ? "" : detail];
  const lines = [...new Set(found.filter(Boolean))].slice(0, 8);
  if (error.retryAfter !== null && status === 429) {
    lines.push(t("error.retry_after", { n: Math.ceil(error.retryAfter) }));
  }
  const some = lines.length > 0 ? lines : [t("error.no_detail", { status: String(status) })];
  return { title, lines: some, aside: saysEnough && !lines.includes(detail) ? detail : "" };
}

/** The same as a box with buttons; `more` are lines of the caller's own. */
export function problemNotice(error, actions = [], more = []) {
  if (isUnderWay(error)) {
    return notice("info", t("error.under_way"), [t("error.under_way_words")], actions);
  }
  const { title, lines, aside } = describe(error);
  return notice("danger", title, [...lines.map(whoSays), ...(aside ? [folded(aside)] : []), ...more], actions);
}

/** A sentence of the server in its own language is said to be one: it stands among those of the page. */
export function whoSays(line) {
  const said = sentence(line);
  return said instanceof Node ? el("span", { class: "server-says" }, t("error.server_says"), " ", said) : said;
}

/** The page has said it in its own words: in the other language it is there for those who want it. */
function folded(line) {
  const said = sentence(line);
  return said instanceof Node ? el("details", { class: "server-says" }, el("summary", {}, t("error.server_words")), said) : said;
}

/** Why a text or a row has no topics: the page's own words for the codes it knows, and what the API says. */
export function rowProblem(error) {
  return tOr(`row.${error.code}`, error.message ?? error.code);
}

/** What the server adds to these words, as a rule where in the text it is; null if nothing. */
export function rowDetail(error) {
  return error.message && error.message !== rowProblem(error) && !ROW_SAYS_ALL.has(error.code) ? sentence(error.message) : null;
}

/** The page's own words for a code of a problem, or of a part of one; "" where it has none. */
function ownWords(code) {
  return tOr(`file.${code}`, tOr(`row.${code}`, tOr(`problem.${code}`, "")));
}

// A text with its words marked by their weight. Places are counted in code points, which `Array.from` cuts a string into;
// an index of JavaScript would count an emoji twice.

import { el } from "./dom.js";
import { language, t } from "./words.js";

const FIELDS = ["doc_text", "image2text", "speech2text"];
const SAID = 5;

/** A weight of less than that is nobody's reason. In logarithms of odds, as all weights. */
const FAINT = 0.1;

/** No topic is so faintly spoken for that a weight below this one is its strongest mark. */
const SMALLEST_SCALE = 0.5;

const signed = new Intl.NumberFormat(language, { signDisplay: "exceptZero", minimumFractionDigits: 1, maximumFractionDigits: 1 });

/** With a minus as wide as the plus. */
const weightText = (weight) => signed.format(weight).replace("-", "−");

const cut = (letters, piece) => letters.slice(piece.start, piece.end).join("");

/** The fields of a post, each under its name if there are several, with what speaks for and against marked. */
export function marked(resource, pieces, heading) {
  const fields = FIELDS.filter((name) => resource[name]);
  const scale = Math.max(SMALLEST_SCALE, ...pieces.map((piece) => Math.abs(piece.weight)));
  const readUpTo = pieces.at(-1);
  return fields.flatMap((name) => [
    fields.length > 1 && el(heading, { class: "small-heading" }, t(`field.${name}`)),
    el(
      "p",
      { class: "post-text", lang: "ru", "data-field": name },
      markedField(
        Array.from(resource[name]),
        pieces.filter((piece) => piece.field === name),
        scale,
        resource.truncated && readUpTo !== undefined && FIELDS.indexOf(name) >= FIELDS.indexOf(readUpTo.field),
      ),
    ),
  ]).filter(Boolean);
}

function markedField(letters, pieces, scale, endsUnread) {
  const nodes = [];
  let done = 0;
  for (const piece of pieces) {
    nodes.push(letters.slice(done, piece.start).join(""), markOf(cut(letters, piece), piece.weight, scale));
    done = piece.end;
  }
  const rest = letters.slice(done).join("");
  const isUnread = endsUnread && /[\p{L}\p{N}]/u.test(rest);
  nodes.push(isUnread ? el("span", { class: "unread" }, el("span", { class: "visually-hidden" }, `${t("why.unread")} `), rest) : rest);
  return nodes;
}

function markOf(text, weight, scale) {
  const share = Math.abs(weight) / scale;
  const step = Math.abs(weight) < FAINT ? 0 : share > 0.6 ? 3 : share > 0.3 ? 2 : share > 0.1 ? 1 : 0;
  return step === 0 ? text : el("mark", { class: `${weight > 0 ? "for" : "against"} s${step}`, title: weightText(weight) }, text);
}

/** The strongest words for and against a topic as sentences, which is what a screen reader says. */
export function saidOf(resource, pieces, topic) {
  const letters = Object.fromEntries(FIELDS.map((name) => [name, Array.from(resource[name])]));
  const strongest = (sign) =>
    pieces
      .filter((piece) => piece.weight * sign >= FAINT)
      .sort((one, other) => (other.weight - one.weight) * sign)
      .slice(0, SAID)
      .map((piece) => el("li", {}, el("span", { lang: "ru" }, cut(letters[piece.field], piece)), " ", el("span", { class: "why-weight" }, weightText(piece.weight))));
  const [found, against] = [strongest(1), strongest(-1)];
  if (found.length + against.length === 0) {
    return [el("p", {}, t("why.nothing", { topic }))];
  }
  const line = (kind, words) =>
    words.length > 0 &&
    el(
      "div",
      { class: `why-line ${kind}` },
      el("p", {}, t(`why.${kind}`), el("span", { class: "visually-hidden" }, ` ${t("why.of_topic", { topic })}`)),
      el("ul", {}, words),
    );
  return [line("for", found), line("against", against)].filter(Boolean);
}

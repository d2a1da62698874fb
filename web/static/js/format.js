// Numbers, shares, dates and durations as the page's language writes them.

import { language, t } from "./words.js";

const whole = new Intl.NumberFormat(language, { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat(language, { maximumSignificantDigits: 3 });
const shares = [1, 2, 3, 4].map((digits) => new Intl.NumberFormat(language, { style: "percent", minimumFractionDigits: digits, maximumFractionDigits: digits }));
const wholeShares = new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: 0 });
const moments = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" });
const lists = new Intl.ListFormat(language, { style: "long", type: "conjunction" });

export const number = (value) => whole.format(value);
export const measure = (value) => short.format(value);
/** A probability, with one digit or more; one that is neither 0 nor 1 is not rounded to either. */
export function percent(share, digits = 1) {
  const format = shares[digits - 1];
  const least = 10 ** -(digits + 2);
  if (share > 0 && share < least / 2) {
    return `< ${format.format(least)}`;
  }
  if (share < 1 && share >= 1 - least / 2) {
    return `> ${format.format(1 - least)}`;
  }
  return format.format(share);
}

/** A probability and its threshold as they stand side by side: with so many digits that it is seen which is greater. */
export function percentPair(probability, threshold) {
  const pairs = shares.map((_, at) => [percent(probability, at + 1), percent(threshold, at + 1)]);
  return pairs.find(([one, other]) => one !== other) ?? pairs[0];
}

export const list = (items) => lists.format(items);

/** How many whole percent of the work are done: never rounded up, so that 100 are all of it. */
export const wholePercent = (done, total) => (total > 0 ? Math.floor((done * 100) / total) : 0);
export const progressPercent = (done, total) => wholeShares.format(wholePercent(done, total) / 100);

export function moment(text) {
  return text ? moments.format(new Date(text)) : "";
}

export function bytes(size) {
  const units = ["byte", "kilobyte", "megabyte", "gigabyte"];
  const step = size < 1 ? 0 : Math.min(Math.floor(Math.log10(size) / 3), units.length - 1);
  return new Intl.NumberFormat(language, {
    style: "unit",
    unit: units[step],
    unitDisplay: step === 0 ? "long" : "short",
    maximumSignificantDigits: 3,
  }).format(size / 1000 ** step);
}

/** A number of seconds as people say it. */
export const duration = (seconds) => (seconds < 10 ? t("time.moments") : rounded(seconds, "nominative"));

/** How many seconds something will still take, as people say it. */
export const timeLeft = (seconds) => (seconds < 10 ? t("job.left_moments") : t("job.left", { time: rounded(seconds, "genitive") }));

/** No finer than anybody can know it beforehand; behind a word like «около» Russian asks for another `form`. */
function rounded(seconds, form) {
  if (seconds < 55) {
    return t(`time.${form}.seconds`, { n: Math.round(seconds / 5) * 5 });
  }
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) {
    return t(`time.${form}.minutes`, { n: minutes });
  }
  if (minutes < 48 * 60) {
    const hours = t(`time.${form}.hours`, { n: Math.floor(minutes / 60) });
    const rest = minutes % 60;
    return rest ? `${hours} ${t("time.short_minutes", { n: rest })}` : hours;
  }
  return t(`time.${form}.days`, { n: Math.round(minutes / 1440) });
}

/** The first `limit` characters of a text on one line, cut at a word where one ends near. */
export function excerpt(text, limit) {
  const line = text.replace(/\s+/gu, " ").trim();
  const letters = Array.from(line);
  if (letters.length <= limit) {
    return line;
  }
  const cut = letters.slice(0, limit).join("");
  const space = cut.lastIndexOf(" ");
  return `${space > limit * 0.7 ? cut.slice(0, space) : cut}…`;
}

// Numbers, shares, dates and durations as the page's language writes them.

import { language, t } from "./words.js";

const whole = new Intl.NumberFormat(language, { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat(language, { maximumSignificantDigits: 3 });
const shares = new Intl.NumberFormat(language, { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
const wholeShares = new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: 0 });
const moments = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" });
const lists = new Intl.ListFormat(language, { style: "long", type: "conjunction" });

export const number = (value) => whole.format(value);
export const measure = (value) => short.format(value);
/** A probability; one that is neither 0 nor 1 is not rounded to either. */
export function percent(share) {
  if (share > 0 && share < 0.0005) {
    return `< ${shares.format(0.001)}`;
  }
  if (share < 1 && share >= 0.9995) {
    return `> ${shares.format(0.999)}`;
  }
  return shares.format(share);
}
export const list = (items) => lists.format(items);

/** A share of finished work: never rounded up to all of it. */
export const progressPercent = (share) => wholeShares.format(Math.floor(share * 100) / 100);

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

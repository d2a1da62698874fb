// The words of the page's language, which the server put into the page.

export const language = document.documentElement.lang;

const words = JSON.parse(document.getElementById("words").textContent);
const plurals = new Intl.PluralRules(language);
const numbers = new Intl.NumberFormat(language);

/** The words under `key` with `{name}` replaced by `values.name`; where there are plural forms, `values.n` chooses. */
export function t(key, values = {}) {
  let entry = words[key];
  if (entry === undefined) {
    throw new Error(`there are no words under ${key}`);
  }
  if (typeof entry === "object") {
    entry = entry[plurals.select(values.n)] ?? entry.other;
  }
  return entry.replace(/\{(\w+)\}/g, (_, name) => {
    const value = values[name];
    return typeof value === "number" ? numbers.format(value) : String(value);
  });
}

/** The words under `key` if there are any, else `fallback`: for codes that the API may add to. */
export function tOr(key, fallback) {
  return words[key] === undefined ? fallback : t(key);
}

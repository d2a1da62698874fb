// What is chosen on a page, kept in its address: a link, a reload and the other language show the same.

/** Let the address have `values` of the parameters `names`, and no others of these. */
export function keepInAddress(names, values) {
  const params = new URLSearchParams(window.location.search);
  names.forEach((name) => params.delete(name));
  for (const [name, value] of values) {
    params.set(name, value);
  }
  window.history.replaceState(null, "", params.size > 0 ? `?${params}` : window.location.pathname);
  const switchTo = document.querySelector(".language");
  params.set("lang", switchTo.hreflang);
  switchTo.href = `${window.location.pathname}?${params}`;
}

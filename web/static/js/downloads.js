// The links to the results as files, with the options that are chosen.

import { byId } from "./dom.js";

/** Takes over the links and the options under them. */
export function makeDownloads(address, choice) {
  const refresh = () => {
    byId("only-chosen").disabled = !choice.isFiltered();
    byId("own-thresholds").disabled = !choice.hasThresholds();
    for (const link of byId("downloads").querySelectorAll("[data-format]")) {
      const { format } = link.dataset;
      const params = new URLSearchParams([
        ...(byId("only-chosen").checked ? choice.filterParams() : []),
        ...(byId("own-thresholds").checked ? choice.thresholdParams() : []),
      ]);
      if (format === "csv" && !byId("bom").checked) {
        params.set("bom", "0");
      }
      if (format === "csv" && byId("raw").checked) {
        params.set("raw", "1");
      }
      link.href = `${address}/results.${format}${params.size > 0 ? `?${params}` : ""}`;
    }
  };
  byId("download-options").addEventListener("change", refresh);
  choice.onMove(refresh);
  refresh();
}

// The links to the results as files, with the options that are chosen.

import { byId } from "./dom.js";

const MOST_IN_A_SHEET = 1048575; // Rows of an Excel sheet without its head.

/** Takes over the links and the options under them; setRows() is told how many rows the job has. */
export function makeDownloads(address, choice) {
  let rows = 0;
  const refresh = () => {
    byId("only-chosen").disabled = !choice.isFiltered();
    byId("own-thresholds").disabled = !choice.hasThresholds();
    const tooMany = rows > MOST_IN_A_SHEET && !(byId("only-chosen").checked && choice.isFiltered());
    byId("sheet-note").hidden = !tooMany;
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
      if (format === "xlsx") {
        link.classList.toggle("disabled", tooMany);
        if (tooMany) {
          link.removeAttribute("href"); // The server could only refuse it.
        }
      }
    }
  };
  byId("download-options").addEventListener("change", refresh);
  choice.onMove(refresh);
  refresh();
  return {
    setRows(total) {
      if (total !== rows) {
        rows = total;
        refresh();
      }
    },
  };
}

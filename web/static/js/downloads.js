// The links to the results as files, with the options that are chosen.

import { byId } from "./dom.js";
import { isOver } from "./jobs.js";

const MOST_IN_A_SHEET = 1048575; // Rows of an Excel sheet without its head.

/** Takes over the links and the options under them; setJob() is told of the job whenever something has changed. */
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
      if (format === "csv" && byId("russian-excel").checked) {
        params.set("delimiter", "semicolon");
        params.set("decimal", "comma");
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
    setJob(job) {
      byId("part-note").hidden = isOver(job);
      if (job.rows.total !== rows) {
        rows = job.rows.total;
        refresh();
      }
    },
  };
}

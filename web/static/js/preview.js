// How the server would read the chosen file, shown before anything of it is stored, and what can be changed about that.

import { api, request } from "./api.js";
import { button, byId, el, icon, notice } from "./dom.js";
import { ApiError, UnreadableFileError } from "./errors.js";
import { bytes, excerpt } from "./format.js";
import { headOf, whichEnd } from "./head.js";
import { mayBeRepeated, problemNotice, rowProblem } from "./problems.js";
import { t, tOr } from "./words.js";

const TEXTS = ["doc_text", "image2text", "speech2text"];
const FIELDS = [...TEXTS, "custom_id"];
const CHOICES = ["encoding", "delimiter", "sheet"];
const EXCERPT = 120;
const READ_OTHERWISE = new Set(["bad_encoding", "no_readable_row", "open_quote", "row_too_long", "duplicate_column", "missing_column"]);
// A file that must be read whole is sent unasked up to this size; beyond it a person decides whether that is worth it.
const UNASKED_BYTES = 20 << 20;

/** Takes over the elements of the preview; options() are those to upload with, chooseOther() asks for another file. */
export function makePreview(chooseOther) {
  let file = null;
  let mapping = null; // As chosen by hand, field by field; null leaves it to the server.
  let asking = null;
  let drawn = false;

  async function ask({ whole = false } = {}) {
    asking?.abort();
    const mine = new AbortController();
    asking = mine;
    byId("preview-notice").replaceChildren(el("p", { class: "hint" }, t("preview.reading")));
    byId("preview").classList.toggle("stale", drawn);
    let sent = file;
    try {
      const head = await headOf(file);
      if (mine.signal.aborted) {
        return;
      }
      if (head === null && !whole && file.size > UNASKED_BYTES) {
        offerWhole("preview.needs_whole");
        return;
      }
      sent = whole || head === null ? file : head;
      const { data } = await request(api("/jobs/preview"), { method: "POST", body: form(sent), signal: mine.signal, limit: null });
      if (!mine.signal.aborted) {
        byId("preview-notice").replaceChildren();
        showLayout(data);
      }
    } catch (failure) {
      const error = failure instanceof ApiError ? failure : await whichEnd(failure, file);
      if (mine.signal.aborted) {
        return;
      }
      if (error instanceof ApiError && error.problem.columns && error.problem.code === "no_text_column") {
        askForColumns(error.problem.columns);
      } else if (error instanceof ApiError && error.status === 422 && sent !== file && sent.size < file.size && !whole) {
        // It may be the cut that cannot be read.
        file.size <= UNASKED_BYTES ? await ask({ whole: true }) : offerWhole("preview.beginning_unclear");
      } else {
        refuse(error);
      }
    }
  }

  /** The button that was pressed goes away, and what is done next is to send the file. */
  function askByHand(how) {
    byId("send").focus();
    ask(how);
  }

  function form(sent) {
    const body = new FormData();
    for (const [name, value] of Object.entries(options())) {
      body.append(name, value);
    }
    body.append("file", sent, file.name);
    return body;
  }

  /** What was chosen, as fields of a form; they stand before the file, so that the server need not keep it meanwhile. */
  function options() {
    const found = {};
    for (const name of CHOICES) {
      if (byId(name).value !== "") {
        found[name] = byId(name).value;
      }
    }
    if (mapping !== null) {
      found.columns = JSON.stringify(mapping);
    }
    if (byId("strict").checked) {
      found.on_error = "fail";
    }
    return found;
  }

  function offerWhole(words) {
    const send = button(t("preview.send_whole", { size: bytes(file.size) }), () => askByHand({ whole: true }));
    byId("preview").hidden = true;
    byId("preview-notice").replaceChildren(notice("info", t(words), [t("preview.whole_words")], [send]));
  }

  function refuse(error) {
    byId("preview").classList.remove("stale");
    const other = error instanceof ApiError && READ_OTHERWISE.has(error.problem.errors?.[0]?.code);
    if (other) {
      // Another choice may help, so the choices are there although there is nothing to show.
      byId("preview-facts").replaceChildren();
      byId("preview-guessed").replaceChildren();
      byId("preview-rows").replaceChildren();
      byId("mapping").hidden ||= !drawn;
      byId("how-read").open = true;
    }
    byId("preview").hidden = !drawn && !other;
    byId("preview-notice").replaceChildren(problemNotice(error, ...whatHelps(error, other)));
  }

  /** Buttons, and words below what is wrong: to send the same again helps only where the file is not what is wrong. */
  function whatHelps(error, other) {
    if (mayBeRepeated(error)) {
      return [[button(t("retry"), () => askByHand())]];
    }
    if (error instanceof UnreadableFileError) {
      return [[button(t("preview.choose_other"), chooseOther)]];
    }
    const ofFile = [413, 415, 422].includes(error.status);
    return ofFile ? [[button(t("preview.choose_other"), chooseOther)], [t(other ? "preview.read_otherwise" : "preview.mend")]] : [];
  }

  /** The columns are known, and which of them holds the texts is not: whoever sends the file can tell. */
  function askForColumns(columns) {
    showColumns(columns, {});
    byId("preview-facts").replaceChildren();
    byId("preview-rows").replaceChildren();
    reveal();
    byId("preview-notice").replaceChildren(notice("warning", t("preview.which_column"), [t("preview.which_column_words")]));
  }

  function showLayout(layout) {
    const facts = [
      t("preview.format", { format: layout.format.toUpperCase() }),
      layout.encoding && t("preview.encoding", { encoding: layout.encoding }),
      layout.delimiter && t("preview.delimiter", { delimiter: tOr(`delimiter.${delimiterName(layout.delimiter)}`, layout.delimiter) }),
      layout.sheet && t("preview.sheet", { sheet: layout.sheet }),
    ];
    byId("preview-facts").replaceChildren(...facts.filter(Boolean).map((fact) => el("li", {}, fact)));
    byId("encoding").closest("div").hidden = layout.encoding === null;
    byId("delimiter").closest("div").hidden = layout.format !== "csv" && layout.format !== "tsv";
    byId("sheet").closest("div").hidden = layout.sheets.length < 2;
    const chosen = byId("sheet").value;
    byId("sheet").replaceChildren(
      el("option", { value: "" }, layout.sheets[0] ?? ""),
      ...layout.sheets.slice(1).map((name) => el("option", { value: name, selected: name === chosen }, name)),
    );
    showColumns(layout.columns, layout.mapping);
    byId("preview-guessed").replaceChildren(layout.guessed ? notice("info", t("preview.guessed", { column: layout.mapping.doc_text })) : "");
    byId("preview-rows").replaceChildren(...rowsView(layout));
    reveal();
  }

  function reveal() {
    drawn = true;
    byId("preview").hidden = false;
    byId("preview").classList.remove("stale");
  }

  function showColumns(columns, found) {
    byId("mapping").hidden = columns.length === 0;
    for (const field of FIELDS) {
      byId(`column-${field}`).replaceChildren(
        el("option", { value: "" }, t("preview.no_column")),
        ...columns.map((name) => el("option", { value: name, selected: found[field] === name }, name)),
      );
    }
  }

  function changeMapping(changed) {
    const chosen = byId(`column-${changed}`).value;
    for (const field of FIELDS) {
      // A column is one field: taken for another it is free again.
      if (field !== changed && chosen !== "" && byId(`column-${field}`).value === chosen) {
        byId(`column-${field}`).value = "";
      }
    }
    mapping = Object.fromEntries(FIELDS.map((field) => [field, byId(`column-${field}`).value]));
    ask();
  }

  for (const name of CHOICES) {
    byId(name).addEventListener("change", () => {
      mapping = null; // Read otherwise, the file has other columns.
      ask();
    });
  }
  byId("strict").addEventListener("change", () => ask());
  for (const field of FIELDS) {
    byId(`column-${field}`).addEventListener("change", () => changeMapping(field));
  }

  return {
    options,
    hide() {
      asking?.abort();
      byId("preview-notice").replaceChildren();
    },
    show(chosen) {
      file = chosen;
      mapping = null;
      drawn = false;
      byId("preview").hidden = true;
      byId("strict").checked = false;
      byId("how-read").open = false;
      byId("sheet").replaceChildren(el("option", { value: "" }));
      for (const name of CHOICES) {
        byId(name).value = "";
      }
      ask();
    },
    /** Look again at the file that was about to be sent, unless it is shown already. */
    resume() {
      if (!drawn) {
        ask();
      }
    },
  };
}

function delimiterName(delimiter) {
  return { ",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe", " ": "space" }[delimiter] ?? "other";
}

function rowsView(layout) {
  const fields = FIELDS.filter((field) => layout.mapping[field] !== undefined);
  const others = layout.columns.filter((name) => !Object.values(layout.mapping).includes(name));
  const heads = [
    el("th", { scope: "col", class: "cell-row" }, t("rows.row")),
    ...fields.map((field) => el("th", { scope: "col", class: "is-field" }, t(`preview.${field}`))),
    ...others.map((name) => el("th", { scope: "col" }, excerpt(name, 40))),
  ];
  const bad = layout.errors.length;
  return [
    bad > 0 && el("p", { class: "preview-bad" }, icon("exclamation-triangle"), " ", t("preview.bad_rows", { n: bad })),
    el(
      "div",
      { class: "table-scroll preview-scroll", tabindex: "0", role: "region", "aria-label": t("preview.rows") },
      el(
        "table",
        { class: "table preview-table" },
        el("thead", {}, el("tr", {}, heads)),
        el("tbody", {}, layout.rows.map((row) => rowView(row, fields, others))),
      ),
    ),
    el("p", { class: "hint" }, t("preview.first_rows", { n: layout.rows.length })),
  ].filter(Boolean);
}

function rowView(row, fields, others) {
  const shown = (value) => excerpt(typeof value === "string" ? value : JSON.stringify(value ?? null), EXCERPT);
  const cells = [
    ...fields.map((field) => el("td", { lang: TEXTS.includes(field) ? "ru" : null }, row[field] ? shown(row[field]) : "")),
    ...others.map((name) => el("td", { class: "is-other" }, row.columns[name] === undefined ? "" : shown(row.columns[name]))),
  ];
  const where = row.error?.column ? ` ${t("rows.column", { name: row.error.column })}` : "";
  const reason = row.error && el("div", { class: "failed-words" }, rowProblem(row.error), where);
  if (reason) {
    cells[0]?.append(reason);
  }
  return el("tr", { class: row.error ? "is-bad" : null }, el("td", { class: "cell-row" }, String(row.row)), cells);
}

// The form that says which rows of a job are shown, and in which order.

import { byId, el } from "./dom.js";
import { t } from "./words.js";

const NONE = "none";

/** Takes over the form; topics([{id, name}]) says what there is to choose from, as soon as a model is known. */
export function makeFilters(choice) {
  let known = "";

  const boxes = () => [...byId("filter-assigned").querySelectorAll("input")];

  function read() {
    const topic = byId("filter-topic").value;
    const ids = boxes().filter(({ checked }) => checked).map(({ value }) => value);
    choice.setFilter({
      q: byId("filter-q").value.trim(),
      topic,
      min_probability: topic && share("filter-min"),
      max_probability: topic && share("filter-max"),
      assigned: ids.join(";"),
      status: byId("filter-status").value,
    });
  }

  /** The number of a field as the interface takes it; what is none, or out of the range, is not asked. */
  function share(id) {
    const value = byId(id).valueAsNumber;
    return Number.isFinite(value) && value >= 0 && value <= 1 ? String(value) : "";
  }

  function write() {
    const filter = choice.filter();
    const set = (id, value) => {
      const field = byId(id);
      if (field !== document.activeElement && field.value !== value) {
        field.value = value;
      }
    };
    set("filter-q", filter.q ?? "");
    set("filter-topic", filter.topic ?? "");
    set("filter-min", filter.min_probability ?? "");
    set("filter-max", filter.max_probability ?? "");
    set("filter-status", filter.status ?? "");
    byId("order").value = choice.order();
    const assigned = (filter.assigned ?? "").split(";");
    for (const box of boxes()) {
      box.checked = assigned.includes(box.value);
    }
    byId("filter-min").disabled = !filter.topic;
    byId("filter-max").disabled = !filter.topic;
    byId("filter-reset").classList.toggle("invisible", !choice.isFiltered());
    if (choice.isFiltered()) {
      byId("filters").open = true;
    }
  }

  byId("filter-form").addEventListener("input", (event) => {
    // «None of the topics» and a topic exclude each other.
    if (event.target.checked && event.target.closest("#filter-assigned")) {
      for (const box of boxes()) {
        box.checked &&= (box.value === NONE) === (event.target.value === NONE);
      }
    }
    read();
  });
  byId("order").addEventListener("change", () => choice.setOrder(byId("order").value));
  byId("filter-form").addEventListener("submit", (event) => event.preventDefault());
  byId("filter-reset").addEventListener("click", () => {
    choice.setFilter({});
    byId("filter-q").value = "";
    byId("filter-q").focus();
  });
  choice.onMove(write);
  write();

  return {
    topics(topics) {
      const now = topics.map(({ id }) => id).join();
      if (now === known) {
        return;
      }
      known = now;
      byId("filter-topic").replaceChildren(
        el("option", { value: "" }, t("filter.any_topic")),
        ...topics.map(({ id, name }) => el("option", { value: id }, name)),
      );
      byId("order").replaceChildren(
        el("option", { value: "" }, t("order.file")),
        ...topics.flatMap(({ id, name }) => [
          el("option", { value: `-${id}` }, t("order.most", { topic: name })),
          el("option", { value: id }, t("order.least", { topic: name })),
        ]),
      );
      byId("filter-assigned-boxes").replaceChildren(
        ...[...topics, { id: NONE, name: t("filter.none_assigned") }].map(({ id, name }) =>
          el(
            "div",
            { class: "form-check form-check-inline" },
            el("input", { type: "checkbox", class: "form-check-input", id: `assigned-${id}`, value: id }),
            el("label", { class: "form-check-label", for: `assigned-${id}` }, name),
          ),
        ),
      );
      write();
    },
  };
}

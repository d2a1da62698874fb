// What is chosen of a job: which rows in which order, and thresholds of one's own. The address of the page keeps it, so that a link or
// a reload shows the same.

import { keepInAddress } from "./address.js";

const NAMES = ["q", "topic", "min_probability", "max_probability", "assigned", "status"];
const SETTLE_MS = 350;

/** onMove hears every change at once, onSettle when nothing has changed for a moment: that is when to ask the server. */
export function makeChoice() {
  const address = new URLSearchParams(window.location.search);
  let filter = Object.fromEntries(NAMES.map((name) => [name, address.get(name)]).filter(([, value]) => value));
  let order = address.get("sort") ?? "";
  const thresholds = new Map(
    (address.get("thresholds") ?? "")
      .split(",")
      .map((pair) => pair.split(":"))
      .filter(([topic, value]) => topic && Number.isFinite(Number.parseFloat(value)))
      .map(([topic, value]) => [topic, Number.parseFloat(value)]),
  );
  const onMove = [];
  const onSettle = [];
  let timer = null;

  const changed = () => {
    onMove.forEach((listener) => listener());
    clearTimeout(timer);
    timer = setTimeout(() => {
      keep();
      onSettle.forEach((listener) => listener());
    }, SETTLE_MS);
  };

  const filterParams = () => new URLSearchParams(filter);

  const thresholdParams = () =>
    new URLSearchParams(thresholds.size > 0 ? { thresholds: [...thresholds].map(([topic, value]) => `${topic}:${value}`).join(",") } : {});

  const orderParams = () => new URLSearchParams(order ? { sort: order } : {});

  const keep = () => keepInAddress([...NAMES, "sort", "thresholds"], [...filterParams(), ...orderParams(), ...thresholdParams()]);

  return {
    onMove: (listener) => onMove.push(listener),
    onSettle: (listener) => onSettle.push(listener),
    filter: () => ({ ...filter }),
    isFiltered: () => Object.keys(filter).length > 0,
    filterParams,
    orderParams,
    thresholdParams,
    order: () => order,
    threshold: (topic) => thresholds.get(topic),
    hasThresholds: () => thresholds.size > 0,
    /** Replaces the filter; what is empty is not asked. */
    setFilter(next) {
      const kept = Object.fromEntries(Object.entries(next).filter(([, value]) => value));
      if (JSON.stringify(kept) !== JSON.stringify(filter)) {
        filter = kept;
        changed();
      }
    },
    /** The id of a topic, with a `-` before it for the most probable rows first; empty: as in the file. */
    setOrder(next) {
      if (next !== order) {
        order = next;
        changed();
      }
    },
    /** A number, or null for the threshold of the model. */
    setThreshold(topic, value) {
      if (value === null) {
        thresholds.delete(topic);
      } else {
        thresholds.set(topic, value);
      }
      changed();
    },
    resetThresholds() {
      thresholds.clear();
      changed();
    },
  };
}

// Making elements. Text goes in as text nodes only, so nothing that a post contains is ever read as markup.

import { language, tOr } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

/** An element with attributes; `on` holds listeners, false and null leave an attribute out. Children: nodes or text. */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) {
        element.addEventListener(event, listener);
      }
    } else if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Words that others wrote: in the page's own where it knows them, else said to be of the language that their letters are of. */
export function sentence(said) {
  const text = tOr(`said.${said}`, said);
  const written = /\p{Script=Cyrillic}/u.test(text) ? "ru" : "en";
  return written === language ? text : el("span", { lang: written }, text);
}

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

const NOTICE_ICONS = {
  danger: "exclamation-circle",
  warning: "exclamation-triangle",
  info: "info-circle",
  success: "check-circle",
};

/** A box with a title, lines of text and buttons, for everything that needs more than a word. */
export function notice(kind, title, lines = [], actions = []) {
  return el(
    "div",
    { class: `alert alert-${kind} notice`, role: kind === "danger" ? "alert" : null },
    icon(NOTICE_ICONS[kind]),
    el(
      "div",
      { class: "notice-body" },
      el("p", { class: "notice-title" }, title),
      lines.map((line) => (line instanceof HTMLDetailsElement ? line : el("p", {}, line))),
      actions.length > 0 && el("div", { class: "notice-actions" }, actions),
    ),
  );
}

export function button(label, listener, kind = "outline-secondary") {
  return el("button", { type: "button", class: `btn btn-sm btn-${kind}`, on: { click: listener } }, label);
}

/** Set the text only if it differs, so that a live region does not speak twice. */
export function say(element, text) {
  if (element.textContent !== text) {
    element.textContent = text;
  }
}

/** Put a box into its place, unless it says there what it says already: that would be spoken again. */
export function put(place, box) {
  if (place.textContent !== box.textContent) {
    place.replaceChildren(box);
  }
}

export function setTitle(text) {
  const brand = document.title.split(" · ").pop();
  document.title = `${text} · ${brand}`;
}

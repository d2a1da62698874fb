// One operation of the REST interface: what it takes and what it answers, as the OpenAPI document has it.

import { page } from "./api.js";
import { el } from "./dom.js";
import { list } from "./format.js";
import { t } from "./words.js";

const DEEPEST = 3; // Shapes within shapes; the topics of a result are there by then.
const english = (tag, text) => el(tag, { lang: "en" }, withCode(text));

/** Descriptions mark code with backquotes; split at pairs of them, every second part of a text is code. */
const withCode = (text) => text.split(/`([^`]+)`/).map((part, place) => (place % 2 === 1 ? el("code", {}, part) : part));

/** A line that unfolds. `shapes` are the schemas of the document by name. */
export function operationView({ path, method, summary, description, operationId, parameters = [], requestBody, responses = {} }, tag, shapes) {
  const answers = Object.entries(responses);
  const refusals = answers.filter(([status]) => status >= "400").map(([status]) => status);
  const details = el(
    "details",
    {},
    el(
      "summary",
      {},
      el("span", { class: `method ${method}` }, method.toUpperCase()),
      el("code", {}, path),
      el("span", { class: "hint", lang: "en" }, summary ?? ""),
    ),
  );
  // Most are never opened.
  const fill = () => {
    if (!details.open || details.childElementCount > 1) {
      return;
    }
    details.append(
      el(
        "div",
        { class: "operation" },
        description && english("p", description),
        part(t("api.parameters"), fields(parameters.map((one) => ({ ...one, type: one.schema, place: t(`api.in_${one.in}`) })), shapes)),
        bodyView(t("api.body"), requestBody?.content, shapes),
        answers.filter(([status]) => status < "400").map(([status, { content }]) => bodyView(t("api.answer", { status }), content, shapes)),
        refusals.length > 0 && el("p", {}, t("api.refusals", { statuses: list(refusals) })),
        el("p", {}, el("a", { href: page(`/docs#/${encodeURIComponent(tag)}/${encodeURIComponent(operationId)}`) }, t("api.try"), el("span", { class: "visually-hidden" }, ` ${method.toUpperCase()} ${path}`))),
      ),
    );
  };
  details.addEventListener("toggle", fill);
  return el("li", {}, details);
}

const part = (name, body) => body && [el("h4", { class: "small-heading" }, name), body];

/** The media types of a body, and the fields of those that have any. */
function bodyView(name, content, shapes) {
  if (!content) {
    return part(name, el("p", {}, t("api.empty")));
  }
  const types = Object.keys(content);
  // An answer that has one of several shapes shows each of them.
  const found = Object.values(content)
    .map(({ schema }) => (schema?.oneOf ?? [schema]).map((one) => shapeView(one, shapes)).filter(Boolean))
    .find((views) => views.length > 0);
  return part(name, el("div", {}, el("p", {}, types.map((type, place) => [place > 0 && ", ", el("code", {}, type)])), found));
}

/** The fields of an object, or of the objects in an array; null where there are none. */
function shapeView(schema, shapes, depth = 1) {
  const { properties, required = [] } = objectOf(schema, shapes) ?? {};
  if (!properties || depth > DEEPEST) {
    return null;
  }
  const items = Object.entries(properties).map(([name, type]) => ({ name, type, required: required.includes(name), description: type.description }));
  return fields(items, shapes, depth);
}

function fields(items, shapes, depth = 1) {
  return (
    items.length > 0 &&
    el(
      "dl",
      { class: "fields" },
      items.map(({ name, type, place, required, description }) => [
        el("dt", {}, el("code", {}, name), el("span", { class: "hint" }, [place, english("span", typeName(type, shapes)), required && t("api.required")].filter(Boolean).flatMap((one, at) => (at > 0 ? [" · ", one] : [one])))),
        el("dd", {}, description && english("p", description), shapeView(type, shapes, depth + 1)),
      ]),
    )
  );
}

const resolve = (schema, shapes) => (schema?.$ref ? shapes[schema.$ref.split("/").pop()] : schema);

/** Without the null that may stand instead. */
const plain = (schema, shapes) => resolve(schema?.anyOf?.find(({ type }) => type !== "null") ?? schema, shapes);

function objectOf(schema, shapes) {
  const found = plain(schema, shapes);
  return found?.type === "array" ? objectOf(found.items, shapes) : found;
}

function typeName(schema, shapes) {
  const found = plain(schema, shapes);
  if (found?.enum) {
    return found.enum.join(" | ");
  }
  if (found?.type === "array") {
    return `array of ${typeName(found.items, shapes)}`;
  }
  return found?.format === "binary" ? "file" : (found?.type ?? "any");
}

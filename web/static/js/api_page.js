// The REST interface at a glance: examples for this very server, and its addresses as the OpenAPI document has them.

import { makeAgain } from "./again.js";
import { api, page, request } from "./api.js";
import { byId, el, say } from "./dom.js";
import { operationView } from "./operation.js";
import { t } from "./words.js";

const again = makeAgain(byId("notice"));
const METHODS = ["get", "post", "put", "patch", "delete"];

function fillExamples() {
  for (const code of document.querySelectorAll("[data-code]")) {
    code.textContent = code.textContent.replaceAll("API/", `${window.location.origin}${api("/")}`);
  }
  for (const copier of document.querySelectorAll("[data-copy]")) {
    copier.addEventListener("click", () => copy(byId(copier.dataset.copy)));
  }
}

async function copy(code) {
  say(byId("copied"), "");
  try {
    await navigator.clipboard.writeText(code.textContent);
    say(byId("copied"), t("api.copied"));
  } catch {
    // Without HTTPS a browser lends no clipboard: what is selected can be copied by hand.
    window.getSelection().selectAllChildren(code);
    say(byId("copied"), t("api.selected"));
  }
}

async function showOperations() {
  again.stop();
  try {
    const { data } = await request(page("/openapi.json"));
    byId("notice").replaceChildren();
    const groups = new Map();
    for (const [path, methods] of Object.entries(data.paths)) {
      for (const method of METHODS.filter((name) => name in methods)) {
        const operation = methods[method];
        const tag = operation.tags?.[0] ?? "";
        groups.set(tag, [...(groups.get(tag) ?? []), { path, method, ...operation }]);
      }
    }
    byId("operations").replaceChildren(...[...groups].flatMap(([tag, operations]) => group(tag, operations, data.components?.schemas ?? {})));
  } catch (error) {
    again.show(error, showOperations);
  }
}

function group(tag, operations, shapes) {
  return [
    el("h3", { class: "small-heading", lang: "en" }, tag),
    el("ul", { class: "operations" }, operations.map((operation) => operationView(operation, tag, shapes))),
  ];
}

fillExamples();
showOperations();

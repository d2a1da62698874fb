// Copying a result as JSON.

import { button, el, say } from "./dom.js";
import { t } from "./words.js";

/** A button that copies `resource` as it is when it is pressed, and says so. */
export function copyButton(resource) {
  const said = el("span", { class: "copy-said", role: "status" });
  const copier = button(t("copy.json"), async () => {
    const done = await copy(`${JSON.stringify(resource, null, 2)}\n`);
    say(said, done ? t("copy.done") : t("copy.failed"));
  });
  copier.id = "copy";
  return el("span", { class: "copy" }, copier, said);
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // On plain HTTP beyond this machine a browser has no clipboard for scripts, but still copies what is selected.
    const area = el("textarea", { class: "visually-hidden", "aria-hidden": "true", tabindex: "-1" });
    area.value = text;
    const before = document.activeElement;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    before?.focus();
    return done;
  }
}

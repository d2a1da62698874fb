// Signing in with a key: the form, on its own page and in a dialog over the page on which a session has ended.

import { button, el } from "./dom.js";
import { ApiError, parseRetryAfter } from "./errors.js";
import { describe, whoSays } from "./problems.js";
import { OWN_PAGE } from "./session.js";
import { language, t } from "./words.js";

const root = document.documentElement.dataset;

let again = null; // The promise of the dialog that is open: whoever else finds the session ended waits for the same one.

/** Ask for the key in a dialog. Resolves to whether somebody is signed in again; the page itself stays as it is. */
export function signInAgain() {
  again ??= ask().finally(() => {
    again = null;
  });
  return again;
}

/** The form. `onDone(session)` is called when it has signed somebody in; `more` are buttons beside its own. */
export function signInForm(onDone, more = []) {
  const error = el("p", { class: "sign-in-error", role: "alert", id: "sign-in-error" });
  const input = el("input", {
    class: "form-control",
    type: "password",
    id: "sign-in-key",
    name: "key",
    autocomplete: "current-password",
    autocapitalize: "none",
    spellcheck: "false",
    maxlength: "200",
    autofocus: true,
    "aria-describedby": "sign-in-hint sign-in-error",
  });
  const form = el(
    "form",
    // Should a browser ever send it by itself, the key must not stand in an address.
    { class: "sign-in", method: "post" },
    el("label", { class: "form-label", for: "sign-in-key" }, t("session.key")),
    input,
    el("p", { class: "hint", id: "sign-in-hint" }, t("session.hint")),
    error,
    el("div", { class: "actions" }, el("button", { type: "submit", class: "btn btn-primary" }, t("session.sign_in")), more),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (form.getAttribute("aria-busy") === "true") {
      return;
    }
    form.setAttribute("aria-busy", "true");
    error.replaceChildren();
    const { session, problem } = await signIn(input.value.trim());
    form.removeAttribute("aria-busy");
    if (session) {
      input.value = "";
      onDone(session);
    } else {
      error.replaceChildren(...problem);
      input.focus();
      input.select();
    }
  });
  return form;
}

/** Resolves to {session}, or to {problem}: what to say, as text and elements. */
async function signIn(key) {
  if (key === "") {
    return { problem: [t("session.empty")] };
  }
  try {
    const response = await fetch(`${root.root}/api/v1/session`, {
      method: "POST",
      headers: { "Content-Type": "application/json", "Accept-Language": language, ...OWN_PAGE },
      body: JSON.stringify({ key }),
      cache: "no-store",
    });
    const data = await response.json();
    if (response.ok) {
      return { session: data };
    }
    if (response.status === 401 || response.status === 422) {
      return { problem: [t("session.unknown")] };
    }
    return { problem: refusal(new ApiError(response.status, data, parseRetryAfter(response.headers.get("Retry-After")))) };
  } catch {
    return { problem: [t("error.network")] };
  }
}

/** The title and the lines of a refusal in one paragraph. */
function refusal(error) {
  const { title, lines } = describe(error);
  return [`${title}.`, ...lines.flatMap((line) => [" ", whoSays(line)])];
}

function ask() {
  return new Promise((resolve) => {
    const finish = (session) => {
      dialog.close();
      dialog.remove();
      resolve(session !== null);
      if (session !== null && session.owner !== root.owner) {
        window.location.reload(); // What stands here belongs to somebody else.
      }
    };
    const form = signInForm(finish, [button(t("session.cancel"), () => finish(null))]);
    const dialog = el(
      "dialog",
      { class: "pane sign-in", "aria-labelledby": "sign-in-heading" },
      el("h2", { id: "sign-in-heading" }, t("session.again")),
      el("p", {}, t("session.again_words")),
      form,
    );
    dialog.addEventListener("cancel", (event) => {
      event.preventDefault();
      finish(null);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

// The page of signing in. It leads back to where somebody wanted to go, on this server and nowhere else.

import { page } from "./api.js";
import { byId } from "./dom.js";
import { signInForm } from "./sign_in.js";

function wayBack() {
  const asked = new URLSearchParams(window.location.search).get("next") ?? "";
  const url = URL.canParse(asked, window.location.href) ? new URL(asked, window.location.href) : null;
  return url !== null && url.origin === window.location.origin && asked.startsWith("/")
    ? url.href // Not only its path: one that begins with two slashes would be read as another server.
    : page("/");
}

const form = signInForm(() => window.location.replace(wayBack()));
byId("place").append(form);
form.querySelector("input").focus();

// The button of signing out, on every page of somebody who is signed in.

import { api, page, request } from "./api.js";
import { byId, notice } from "./dom.js";
import { describe } from "./problems.js";
import { t } from "./words.js";

byId("sign-out").addEventListener("click", async () => {
  try {
    // 401: it has ended by itself.
    await request(api("/session"), { method: "DELETE", also: [401] });
  } catch (error) {
    byId("main").prepend(notice("danger", t("session.not_signed_out"), describe(error).lines));
    return;
  }
  try {
    sessionStorage.clear(); // Drafts are for nobody who comes after.
  } catch {
    // A browser that stores nothing has nothing to forget.
  }
  window.location.assign(page("/login"));
});

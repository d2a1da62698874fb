// After a failure that may pass: the notice of it, and another try as soon as the server is there again.

import { readiness } from "./api.js";
import { button } from "./dom.js";
import { ApiError, NetworkError } from "./errors.js";
import { poll } from "./poll.js";
import { mayBeRepeated, problemNotice } from "./problems.js";
import { t } from "./words.js";

const FIRST_MS = 1000;
const SLOWEST_MS = 30_000;

const mayPass = (error) => error instanceof NetworkError || (error instanceof ApiError && [502, 503, 504].includes(error.status));

/**
 * show(error, act) puts the notice into `place` and calls `act` once the server and its database answer; each failure
 * in a row is waited after for twice as long, and for as long as the server asks. `press` is what its button does; with
 * `gaveUp`, a line that says why, nothing is done without it. stop() when something else begins.
 */
export function makeAgain(place) {
  let asking = null;
  let timer = null;
  let failures = 0;
  let failedAt = -Infinity;

  const stop = () => {
    clearTimeout(timer);
    asking?.stop();
    asking = null;
  };

  const ask = (act) => {
    asking = poll(async () => ({ data: await readiness(), retryAfter: null }), {
      onAnswer: ({ checks }) => {
        if (checks.postgres?.ok === false) {
          return true;
        }
        act();
        return false;
      },
      onError: () => {},
    });
  };

  return {
    stop,
    show(error, act, { press = act, gaveUp = null } = {}) {
      stop();
      // The button goes with the notice: whoever pressed it by keyboard goes on from the same place.
      const repeat = () => {
        place.tabIndex = -1;
        place.focus({ preventScroll: true });
        press();
      };
      const actions = mayBeRepeated(error) ? [button(t("retry"), repeat)] : [];
      place.replaceChildren(problemNotice(error, actions, mayPass(error) ? [gaveUp ?? t("error.again")] : []));
      if (mayPass(error) && !gaveUp) {
        failures = performance.now() - failedAt < 2 * SLOWEST_MS ? failures + 1 : 0;
        failedAt = performance.now();
        const asked = (error.retryAfter ?? 0) * 1000;
        timer = setTimeout(() => ask(act), Math.max(Math.min(FIRST_MS * 2 ** failures, SLOWEST_MS), asked));
      }
    },
  };
}

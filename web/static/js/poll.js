// Asking again and again, politely: as the server wishes, slower as nothing changes, rarely while nobody looks.

import { ApiError } from "./errors.js";

const FIRST_MS = 1000;
const SLOWEST_MS = 5000;
const HIDDEN_MS = 15_000;
const SLOWEST_AFTER_ERRORS_MS = 30_000;

/**
 * Calls `ask()` (which resolves to {data, retryAfter}) until `onAnswer(data)` returns false or stop() is called.
 * `onError(error)` hears every failure; one that asking again cannot mend (4xx but 429 and 408) ends the polling.
 */
export function poll(ask, { onAnswer, onError, first = FIRST_MS }) {
  let stopped = false;
  let timer = null;
  let delay = first;
  let last = null;
  let dueAt = 0;

  const stop = () => {
    stopped = true;
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", onVisible);
  };

  const wait = (milliseconds) => {
    dueAt = performance.now() + milliseconds;
    clearTimeout(timer);
    timer = setTimeout(turn, document.hidden ? Math.max(milliseconds, HIDDEN_MS) : milliseconds);
  };

  const turn = async () => {
    timer = null;
    try {
      const { data, retryAfter } = await ask();
      if (stopped) {
        return;
      }
      const text = JSON.stringify(data);
      delay = text === last ? Math.min(delay * 1.5, SLOWEST_MS) : first;
      last = text;
      if (onAnswer(data) === false) {
        stop();
      } else {
        wait(Math.max(delay, (retryAfter ?? 0) * 1000));
      }
    } catch (error) {
      if (stopped) {
        return;
      }
      const hopeless = error instanceof ApiError && error.status < 500 && ![408, 429].includes(error.status);
      if (hopeless) {
        stop();
      }
      onError(error, { hopeless });
      if (!hopeless) {
        delay = Math.min(delay * 2, SLOWEST_AFTER_ERRORS_MS);
        wait(Math.max(delay, (error.retryAfter ?? 0) * 1000));
      }
    }
  };

  const onVisible = () => {
    if (!document.hidden && timer !== null) {
      wait(Math.max(0, dueAt - performance.now()));
    }
  };

  document.addEventListener("visibilitychange", onVisible);
  wait(0);
  return { stop, now: () => timer !== null && wait(0) };
}

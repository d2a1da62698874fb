// A job as it changes: told by the server while the page is looked at, asked for where that is not possible.

import { request } from "./api.js";
import { poll } from "./poll.js";

const QUIET_MS = 2000;
const ASK_AFTER_MS = 20_000;
const EVENTS_AGAIN_MS = 30_000;

/**
 * Calls `onAnswer(job)` with every news and, while there are none, with the same job every two seconds, until it
 * returns false or stop() is called. `onError` as in poll(). A hidden page asks, and rarely: a browser keeps few
 * connections to one server, and a stream in each of many tabs would leave none for the one that is looked at.
 */
export function watch(address, { onAnswer, onError }) {
  let polling = null;
  let stream = null;
  let ticker = null;
  let failedAt = -Infinity;
  let over = false;

  const hear = (job) => {
    over = onAnswer(job) === false;
    return !over;
  };

  const close = () => {
    stream?.close();
    stream = null;
    clearInterval(ticker);
    polling?.stop();
    polling = null;
  };

  const ask = () => {
    close();
    polling = poll(() => request(address), {
      onAnswer: (job) => {
        const goOn = hear(job);
        if (goOn && !document.hidden && performance.now() - failedAt > EVENTS_AGAIN_MS) {
          listen(job);
          return false;
        }
        return goOn;
      },
      onError,
    });
  };

  const listen = (job) => {
    let last = job;
    let heardAt = performance.now();
    stream = new EventSource(`${address}/events`);
    stream.addEventListener("job", (event) => {
      last = JSON.parse(event.data);
      heardAt = performance.now();
      if (!hear(last)) {
        close();
      }
    });
    // Deleted, refused, or a connection that broke: asking will say what it is.
    stream.addEventListener("end", ask);
    stream.addEventListener("error", () => {
      failedAt = performance.now();
      ask();
    });
    ticker = setInterval(() => {
      if (performance.now() - heardAt > ASK_AFTER_MS) {
        ask();
      } else if (performance.now() - heardAt >= QUIET_MS) {
        hear(last);
      }
    }, QUIET_MS);
  };

  const stop = () => {
    over = true;
    close();
  };

  const onVisibility = () => {
    if (!over && document.hidden === (stream !== null)) {
      ask();
    }
  };

  document.addEventListener("visibilitychange", onVisibility);
  // A page that the browser keeps for the way back must hold no connection, and begins anew when it is shown again.
  window.addEventListener("pagehide", close);
  window.addEventListener("pageshow", ({ persisted }) => persisted && !over && ask());
  ask();
  return { stop, now: () => (stream === null ? polling?.now() : undefined) };
}

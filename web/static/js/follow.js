// Waiting for one text's result, and saying why it takes long.

import { api, readiness, request } from "./api.js";
import { notice } from "./dom.js";
import { poll } from "./poll.js";
import { t } from "./words.js";

const ASK_WHY_AFTER_MS = 4000;
const ASK_WHY_EVERY_MS = 10_000;

export const isFinal = (resource) => resource.status === "succeeded" || resource.status === "failed" || resource.status === "cancelled";

/** Resolves to the final resource. `onTrouble(error)` hears lost connections, `onTrouble(null)` that it is back. */
export function follow(id, { signal, onTrouble }) {
  return new Promise((resolve, reject) => {
    const polling = poll(() => request(api(`/classifications/${encodeURIComponent(id)}`), { signal }), {
      onAnswer: (resource) => {
        onTrouble(null);
        if (isFinal(resource)) {
          resolve(resource);
        }
        return !isFinal(resource);
      },
      onError: (error, { hopeless }) => (hopeless ? reject(error) : onTrouble(error)),
    });
    signal?.addEventListener("abort", () => {
      polling.stop();
      reject(signal.reason);
    });
  });
}

/** Until the returned function is called, say in `place` if nothing works on waiting texts. */
export function explainWaiting(place) {
  const ended = new AbortController();
  let timer = setTimeout(look, ASK_WHY_AFTER_MS);
  let said = [];
  const say = (boxes) => {
    for (const box of said) {
      box.remove();
    }
    said = boxes;
    place.append(...said);
  };
  async function look() {
    try {
      const { checks } = await readiness(ended.signal);
      if (!ended.signal.aborted) {
        say(workerNotice(checks));
      }
    } catch {
      // The request that waits will say that the server is gone; two such notices would be one too many.
    }
    if (!ended.signal.aborted) {
      timer = setTimeout(look, ASK_WHY_EVERY_MS);
    }
  }
  return () => {
    ended.abort();
    clearTimeout(timer);
    say([]);
  };
}

/** A notice if no worker is alive, else nothing; without a database nobody knows of workers. */
export function workerNotice(checks) {
  return checks?.worker?.ok === false && checks.postgres?.ok !== false ? [notice("warning", t("wait.no_worker"), [t("wait.no_worker_words")])] : [];
}


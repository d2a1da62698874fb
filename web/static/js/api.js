// The REST API as seen from here: addresses and requests.

import { ApiError, NetworkError, parseRetryAfter } from "./errors.js";
import { OWN_PAGE, isSignedIn } from "./session.js";
import { signInAgain } from "./sign_in.js";
import { language } from "./words.js";

const root = document.documentElement.dataset.root;
const GIVE_UP_MS = 75_000;

/** The limit of what the database may work on for two minutes; then the server says that this took too long. */
export const COUNTING_MS = 130_000;

/** The address under the API's base. */
export const api = (path) => `${root}/api/v1${path}`;

/** The address of a page. */
export const page = (path) => `${root}${path}`;

/** A link that the API gave, as an address on this very server whatever name a proxy knows it by. */
export function sameServer(link) {
  const url = new URL(link, window.location.href);
  return url.pathname + url.search;
}

/** Random enough to name one attempt; `randomUUID` is missing on plain HTTP beyond this machine. */
export function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * Resolves to {status, data, retryAfter, location}. Throws ApiError, NetworkError, or AbortError if `signal` fires.
 * `limit` is how many milliseconds all of it may take; null is for a body that takes as long as the line is slow.
 * Where a session has ended it waits for somebody to sign in again, and sends the request once more.
 */
export async function request(address, options = {}) {
  try {
    return await send(address, options);
  } catch (error) {
    const hasEnded = error instanceof ApiError && error.status === 401 && isSignedIn();
    if (hasEnded && (await signInAgain())) {
      return send(address, options);
    }
    throw error;
  }
}

async function send(address, { method = "GET", json, body, headers = {}, signal, also = [], limit = GIVE_UP_MS }) {
  const giveUp = new AbortController();
  const stop = () => giveUp.abort();
  const timer = limit === null ? null : setTimeout(stop, limit);
  signal?.addEventListener("abort", stop);
  try {
    signal?.throwIfAborted();
    const response = await fetch(address, {
      method,
      body: json === undefined ? body : JSON.stringify(json),
      headers: {
        Accept: "application/json, application/problem+json",
        "Accept-Language": language,
        ...(method === "GET" ? {} : OWN_PAGE),
        ...(json === undefined ? {} : { "Content-Type": "application/json" }),
        ...headers,
      },
      // The browser then asks with If-None-Match by itself, and an unchanged resource is not sent again.
      cache: "no-cache",
      signal: giveUp.signal,
    });
    const data = await readJson(response);
    const retryAfter = parseRetryAfter(response.headers.get("Retry-After"));
    if (!response.ok && !also.includes(response.status)) {
      throw new ApiError(response.status, data ?? {}, retryAfter);
    }
    return { status: response.status, data, retryAfter, location: response.headers.get("Location") };
  } catch (error) {
    if (error instanceof ApiError || signal?.aborted) {
      throw error;
    }
    throw new NetworkError(String(error));
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", stop);
  }
}

/** What `/readyz` says, ready or not; throws NetworkError when nothing answers. */
export async function readiness(signal) {
  const { data } = await request(page("/readyz"), { signal, also: [503] });
  return data ?? { status: "not_ready", checks: {} };
}

async function readJson(response) {
  const text = await response.text();
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

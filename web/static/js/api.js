// The REST API as seen from here: requests, and errors that know what went wrong.

import { OWN_PAGE, isSignedIn, signInAgain } from "./sign_in.js";
import { language } from "./words.js";

const root = document.documentElement.dataset.root;
const GIVE_UP_MS = 75_000;

/** The API answered, and what it said is not a success. `problem` is its RFC 9457 document, or {}. */
export class ApiError extends Error {
  constructor(status, problem, retryAfter = null) {
    super(problem.detail ?? problem.title ?? `HTTP ${status}`);
    this.status = status;
    this.problem = problem;
    this.retryAfter = retryAfter;
  }
}

/** Nothing answered: no connection, or none in time. */
export class NetworkError extends Error {}

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

/** Seconds that a `Retry-After` asks for, or null. */
export function parseRetryAfter(value) {
  const seconds = Number.parseFloat(value ?? "");
  return Number.isFinite(seconds) && seconds >= 0 ? seconds : null;
}

/**
 * Resolves to {status, data, retryAfter, location}. Throws ApiError, NetworkError, or AbortError if `signal` fires.
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

async function send(address, { method = "GET", json, body, headers = {}, signal, also = [] }) {
  const giveUp = new AbortController();
  const timer = setTimeout(() => giveUp.abort(), GIVE_UP_MS);
  const stop = () => giveUp.abort();
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

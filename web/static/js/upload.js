// Sending a file. By XMLHttpRequest, because fetch does not tell how much has gone out.

import { api, request } from "./api.js";
import { ApiError, NetworkError, parseRetryAfter } from "./errors.js";
import { whichEnd } from "./head.js";
import { OWN_PAGE, isSignedIn } from "./session.js";
import { language } from "./words.js";

/**
 * Sends `file` to `/jobs` with the `options` of reading it. `onProgress({sent, total})` counts bytes on their way; sent === total means that the server
 * has it all and is reading. Returns {done, cancel}: a promise of the job (ApiError, NetworkError, UnreadableFileError,
 * AbortError), and a function that stops.
 */
export function upload(file, details) {
  let attempt = null;
  let cancelled = false;
  const run = async () => {
    if (isSignedIn()) {
      await request(api("/session")); // A session that has ended is noticed before gigabytes are on their way.
    }
    if (cancelled) {
      throw new DOMException("cancelled", "AbortError");
    }
    attempt = start(file, details);
    try {
      return await attempt.done;
    } catch (error) {
      throw error instanceof NetworkError ? await whichEnd(error, file) : error;
    }
  };
  const cancel = () => {
    cancelled = true;
    attempt?.cancel();
  };
  return { done: run(), cancel };
}

function start(file, { name, options, key, onProgress }) {
  const form = new FormData();
  if (name) {
    form.append("name", name);
  }
  for (const [option, value] of Object.entries(options)) {
    form.append(option, value);
  }
  form.append("file", file, file.name);
  const xhr = new XMLHttpRequest();
  const done = new Promise((resolve, reject) => {
    xhr.upload.addEventListener("progress", ({ loaded, total }) => onProgress({ sent: loaded, total }));
    xhr.addEventListener("load", () => {
      const data = parse(xhr.responseText);
      if (xhr.status >= 200 && xhr.status < 300) {
        resolve(data);
      } else {
        reject(new ApiError(xhr.status, data ?? {}, parseRetryAfter(xhr.getResponseHeader("Retry-After"))));
      }
    });
    xhr.addEventListener("error", () => reject(new NetworkError("the connection broke")));
    xhr.addEventListener("abort", () => reject(new DOMException("cancelled", "AbortError")));
  });
  xhr.open("POST", api("/jobs"));
  xhr.setRequestHeader("Accept", "application/json, application/problem+json");
  xhr.setRequestHeader("Accept-Language", language);
  xhr.setRequestHeader("Idempotency-Key", key);
  for (const [header, value] of Object.entries(OWN_PAGE)) {
    xhr.setRequestHeader(header, value);
  }
  xhr.send(form);
  return { done, cancel: () => xhr.abort() };
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

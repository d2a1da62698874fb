// What goes wrong between the page, the server and a chosen file, as kinds of errors.

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

/** The chosen file has changed, is gone, or is a folder: nothing but choosing it again helps. */
export class UnreadableFileError extends Error {}

/** Seconds that a `Retry-After` asks for, or null. */
export function parseRetryAfter(value) {
  const seconds = Number.parseFloat(value ?? "");
  return Number.isFinite(seconds) && seconds >= 0 ? seconds : null;
}

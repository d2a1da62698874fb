"""What clients have seen: which requests were answered how, and whether results are those of their texts."""

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import httpx2
import pytest

from tests.fake_classifier import expected

SAME_TEXT = 0.03
"""Eight-bit arithmetic rounds a text a little otherwise in other company."""

MOST_KNOWN = 20_000
"""So many different texts are remembered with their probability: those that come first, the common ones among them."""


class Ledger:
    """Shared by all clients.

    Attributes:
        answers: how often each status came from each service.
        problems: what must not be, one sentence each.
        done: how often clients did what.
    """

    def __init__(self, *, fake: bool) -> None:
        self._fake = fake
        self._lock = threading.Lock()
        self._known: dict[str, float] = {}
        self.answers: Counter[tuple[str, int]] = Counter()
        self.problems: list[str] = []
        self.done: Counter[str] = Counter()

    def count(self, what: str, number: int = 1) -> None:
        """A client has done this."""
        with self._lock:
            self.done[what] += number

    def complain(self, sentence: str) -> None:
        """Something that must not be."""
        with self._lock:
            self.problems.append(sentence)

    def answered(self, service: str, request: httpx2.Request, status: int, body: bytes) -> None:
        """An answer; 503 is the one of its kind that is allowed."""
        with self._lock:
            self.answers[service, status] += 1
        if status >= 500 and status != 503:
            self.complain(f"{request.method} {request.url}: {status} {body[:300]!r}")

    def lost(self, service: str, request: httpx2.Request, error: Exception, *, allowed: bool) -> None:
        """A connection that broke; a service that nobody restarts has no excuse."""
        with self._lock:
            self.answers[service, 0] += 1
        if not allowed:
            self.complain(f"{request.method} {request.url}: {error!r}")

    def check_text(self, text: str, probability: float | None, failed: str | None) -> None:
        """The probability of sport that a text was given, once it is computed."""
        if probability is None:
            self.complain(f"{text!r} has no result: {failed}")
        elif self._fake:
            if probability != pytest.approx(expected(text)):
                self.complain(f"{text!r} has the result of another: {probability}")
        else:
            with self._lock:
                first = self._known.get(text, probability)
                if len(self._known) < MOST_KNOWN:
                    self._known[text] = first
            if abs(first - probability) > SAME_TEXT:
                self.complain(f"{text!r} has {probability} and had {first}")

    def check_rows(self, texts: Sequence[str], rows: Sequence[Mapping[str, Any]], *, whole: bool) -> None:
        """The rows of a file: each text once, in order, with its result; of a cancelled file some may have none."""
        if [(row["row"], row["text"]) for row in rows] != list(enumerate(texts, 1)):
            self.complain(f"of {len(texts)} rows {len(rows)} came back, or others")
            return
        for row in rows:
            if whole or row["sport"] is not None:
                self.check_text(row["text"], row["sport"], row["error"])

    def check_again(self, rows: Sequence[Mapping[str, Any]], again: Sequence[Mapping[str, Any]]) -> None:
        """The rows of a file that was computed, and those of the same file computed once more."""
        self.check_rows([row["text"] for row in rows], again, whole=True)
        for one, other in zip(rows, again, strict=False):
            before, now = one["sport"], other["sport"]
            if before is not None and now is not None and abs(now - before) > SAME_TEXT:
                self.complain(f"{one['text']!r} has {now} when it is computed again and had {before}")


class Recording(httpx2.HTTPTransport):
    """Notes every answer on its way to a client."""

    def __init__(self, ledger: Ledger, service: str, *, may_break: bool) -> None:
        super().__init__()
        self._ledger, self._service, self._may_break = ledger, service, may_break

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Pass a request on."""
        try:
            response = super().handle_request(request)
            body = response.read() if response.status_code >= 500 else b""
        except httpx2.TransportError as error:
            self._ledger.lost(self._service, request, error, allowed=self._may_break)
            raise
        self._ledger.answered(self._service, request, response.status_code, body)
        return response

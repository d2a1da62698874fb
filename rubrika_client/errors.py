"""What can go wrong between a program and the service, as exceptions. All of them are `ServiceError`."""

from collections.abc import Mapping, Sequence
from typing import Any


class ServiceError(Exception):
    """Anything that kept a request from being answered as it should be; the message is a sentence for people."""


class NoAnswerError(ServiceError):
    """Nobody listens at the address, or the connection broke, and trying again did not help."""


class BadAnswerError(ServiceError):
    """Something answered that is not Rubrika, or a Rubrika that this client does not understand."""


class ArgumentError(ServiceError, ValueError):
    """What the program has given cannot be sent: an address that is none, or a key with other characters than ASCII."""


class ProblemError(ServiceError):
    """The service has said no, with problem details (RFC 9457).

    Attributes:
        status: the HTTP status.
        code: stable, for programs; the table in docs/api.md has them all. Empty where something else than Rubrika,
            such as a proxy, has answered.
        errors: `{"pointer", "code", "message"}` for each thing that is wrong with the input.
        retry_after: seconds after which it may be tried again; None where the service did not say.
        more: what else stands in the problem, such as `line`, `byte` or `column` of a file.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        errors: Sequence[Mapping[str, Any]] = (),
        retry_after: float | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.errors = tuple(errors)
        self.retry_after = retry_after
        self.more = dict(more or {})

    @property
    def place(self) -> str:
        """Where in a file it is, as far as that is known: `line 3, column text`; empty where it is not."""
        return ", ".join(f"{name} {self.more[name]}" for name in ("line", "byte", "column") if name in self.more)


class KeyRefusedError(ProblemError):
    """401 or 403: the service wants a key, or another one."""


class NotFoundError(ProblemError):
    """404: there is no such thing, or it is somebody else's."""


class ConflictError(ProblemError):
    """409: not in this state."""


class TooLargeError(ProblemError):
    """413: over a limit of the service."""


class InvalidError(ProblemError):
    """400, 415 or 422: what was sent cannot be used; `errors`, and for a file `place`, say where."""


class BusyError(ProblemError):
    """429: too much at once, or too often."""


class UnavailableError(ProblemError):
    """502, 503 or 504: the service is there, and cannot work just now."""


KINDS: Mapping[int, type[ProblemError]] = {
    400: InvalidError,
    401: KeyRefusedError,
    403: KeyRefusedError,
    404: NotFoundError,
    409: ConflictError,
    413: TooLargeError,
    415: InvalidError,
    422: InvalidError,
    429: BusyError,
    502: UnavailableError,
    503: UnavailableError,
    504: UnavailableError,
}
"""The class of each status; any other is a plain `ProblemError`."""

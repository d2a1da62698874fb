"""JSON bodies, read strictly: what is wrong is said with its place, and no body of any kind is an error of ours."""

import json
from typing import Any

from flask import Request

from api.incoming import packed_problem, packing_of
from api.problems import ProblemError


class StrictRequest(Request):
    """A request whose `get_json` says what is wrong instead of answering None."""

    def get_json(self, force: bool = False, silent: bool = False, cache: bool = True) -> Any:  # noqa: ARG002
        """The body as JSON. Raises `ProblemError`: 415 for another media type or a packed body, 400 for what is not
        JSON.

        JSON is short (`RUBRIKA_MAX_JSON_BYTES` at most), so it is not unpacked: what is large comes as a file.
        """
        if not self.is_json:
            raise ProblemError(
                415,
                "unsupported_media_type",
                f"The body must be application/json, not {self.mimetype or 'of no type'}.",
                headers={"Accept": "application/json"},
            )
        if (packing := packing_of(self)) != "identity":
            raise packed_problem(
                f"JSON is read as it is, not packed by {packing[:40]!r}: send it without Content-Encoding. "
                "A file of many posts may be packed by gzip, see /api/v1/jobs.",
                "identity",
            )
        return parse(self.get_data(cache=True))


def parse(data: bytes) -> Any:
    """`data` as JSON (RFC 8259, UTF-8). Raises `ProblemError` 400 with the place of what is wrong."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _broken(f"The body is not UTF-8: byte {error.start}.") from error
    try:
        return json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise _broken(f"The body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}.") from error
    except RecursionError as error:
        raise _broken("The body is nested too deeply.") from error
    except ValueError as error:
        raise _broken(f"The body is not JSON: {error}.") from error


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _broken(detail: str) -> ProblemError:
    return ProblemError(400, "invalid_json", detail)

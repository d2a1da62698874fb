"""Requests that hold a thread for long: waits, streams, uploads, downloads, and those for which Postgres goes through a
whole file. They take a place, or do without."""

from functools import partial

from flask import Response, after_this_request

from api.callers import caller
from api.context import context
from api.problems import ProblemError


def may_hold() -> bool:
    """Take a place for this request, given back when its answer has been sent; False when its key has none left.

    While keys are off there is nobody to be fair to.
    """
    key_id = caller().key_id
    if key_id is None:
        return True
    places = context().places
    if not places.enter(key_id):
        return False

    def give_back(response: Response) -> Response:
        response.call_on_close(partial(places.leave, key_id))
        return response

    after_this_request(give_back)
    return True


def hold() -> None:
    """The same, for a request that cannot do without. Raises a problem (429)."""
    if not may_hold():
        raise ProblemError(
            429,
            "too_many_held",
            f"This key has {context().places.most} requests here that take long; let one end first.",
            headers={"Retry-After": "5"},
        )

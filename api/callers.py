"""Who sends this request: known before any view runs, and all that a view asks for is `owner()`."""

from dataclasses import dataclass
from typing import cast

from flask import g

from api.context import OWNER
from jobs.keys import Holder
from jobs.states import Role


@dataclass(frozen=True)
class Caller:
    """Somebody whom the guard has let in."""

    owner: str
    name: str
    role: Role
    key_id: int | None
    """The key, also of a session; none while keys are off."""
    by_cookie: bool = False

    @staticmethod
    def of(holder: Holder, *, by_cookie: bool) -> "Caller":
        """The holder of a key, or of a session."""
        return Caller(holder.owner, holder.name, holder.role, holder.key_id, by_cookie)


LOCAL = Caller(OWNER, OWNER, Role.ADMIN, None)
"""Everybody, while keys are off."""


def admit(caller: Caller) -> None:
    """Note who sends this request."""
    g.caller = caller


def caller() -> Caller:
    """Who sends this request. Only for views of those who were let in: elsewhere there is nobody."""
    return cast(Caller, g.caller)


def owner() -> str:
    """Whose data this request may touch.

    A generator that goes on after the view has returned must be given it: by then there is no request to ask.
    """
    return caller().owner

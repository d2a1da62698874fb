"""Keys and the sessions of browsers: who may come in, and whose data is opened.

A key and a session's token are random, 256 bits each, so a plain SHA-256 of them is as good as a slow one; it alone is
stored. They are looked up by that digest, so that the time of a look-up tells nothing of a key that is nearly right.
"""

import hashlib
import re
import secrets
import string
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, text

from jobs.errors import ConflictError, NotFoundError, RubrikaError
from jobs.states import Role

PREFIX = "rbk_"
"""What a key begins with, so that people and scanners of leaked secrets see what it is."""

SESSION_DAYS = 7
"""A session ends after so long, however much it is used."""

_LETTERS = string.ascii_letters + string.digits
_RANDOM_CHARS = 43
"""Of 62 letters: 256 bits. None of them breaks a word, so that a click selects all."""

_COLUMNS = "id, hint, name, owner, role, created_at, used_at, revoked_at"
_HINT_CHARS = len(PREFIX) + 4
_KEY = re.compile(rf"{PREFIX}[A-Za-z0-9]{{{_RANDOM_CHARS}}}")
_NAME = re.compile(r"[\w.@+-]{1,64}")


class KeyNameError(RubrikaError):
    """A name of a key or of an owner that cannot be used."""


@dataclass(frozen=True)
class Key:
    """A key as it is listed; the key itself is kept nowhere."""

    id: int
    hint: str
    name: str
    owner: str
    role: Role
    created_at: datetime
    used_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True)
class Holder:
    """Who has come in with a key, or with a session that was begun with it."""

    key_id: int
    name: str
    owner: str
    role: Role


def is_key(candidate: str) -> bool:
    """Whether this looks like a key at all; what does not is never looked up."""
    return _KEY.fullmatch(candidate) is not None


def create(connection: Connection, name: str, owner: str, role: Role) -> tuple[Key, str]:
    """Make a key for the data of `owner`; returns it as it is listed, and the key itself, which nobody can see again.

    Raises `KeyNameError`, and `ConflictError` when a key of this name is in use.
    """
    for given in (name, owner):
        if not _NAME.fullmatch(given):
            raise KeyNameError(f"{given!r} is no name: 1 to 64 letters, digits and . @ + - _ .")
    secret = PREFIX + _random()
    row = connection.execute(
        text(f"""
            INSERT INTO api_keys (digest, hint, name, owner, role) VALUES (:digest, :hint, :name, :owner, :role)
            ON CONFLICT (name) WHERE revoked_at IS NULL DO NOTHING RETURNING {_COLUMNS}
        """),
        {"digest": _digest(secret), "hint": secret[:_HINT_CHARS], "name": name, "owner": owner, "role": role},
    ).one_or_none()
    if row is None:
        raise ConflictError(f"A key called {name!r} is in use: revoke it first, or take another name.")
    return _key(row), secret


def all_keys(connection: Connection) -> list[Key]:
    """All keys that there ever were, those in use first, then the newest."""
    rows = connection.execute(text(f"SELECT {_COLUMNS} FROM api_keys ORDER BY revoked_at DESC NULLS FIRST, id DESC"))
    return [_key(row) for row in rows]


def revoke(connection: Connection, name: str) -> Key:
    """Let nobody in any more with the key of this name, nor with a session that was begun with it.

    Raises `NotFoundError` when no key of this name is in use.
    """
    row = connection.execute(
        text(f"UPDATE api_keys SET revoked_at = now() WHERE name = :name AND revoked_at IS NULL RETURNING {_COLUMNS}"),
        {"name": name},
    ).one_or_none()
    if row is None:
        raise NotFoundError(f"No key called {name!r} is in use.")
    connection.execute(text("DELETE FROM sessions WHERE key_id = :id"), {"id": row.id})
    return _key(row)


def owners_data(connection: Connection, owner: str) -> int:
    """How many jobs an owner has: whoever gets a key for them should be meant to."""
    count: int = connection.execute(
        text("SELECT count(*) FROM jobs WHERE owner = :owner"), {"owner": owner}
    ).scalar_one()
    return count


# --- coming in ------------------------------------------------------------------------------------------------------


def holder_of_key(connection: Connection, secret: str) -> Holder | None:
    """Who has this key; None when nobody has, or it was revoked. Notes that it was used, every ten minutes."""
    row = connection.execute(
        text("""
            SELECT id, name, owner, role, coalesce(used_at < now() - interval '10 minutes', true) AS stale
            FROM api_keys WHERE digest = :digest AND revoked_at IS NULL
        """),
        {"digest": _digest(secret)},
    ).one_or_none()
    if row is None:
        return None
    if row.stale:
        _note_use(connection, row.id)
    return Holder(row.id, row.name, row.owner, Role(row.role))


def is_in_use(connection: Connection, key_id: int) -> bool:
    """Whether a key still lets its holder in."""
    found = connection.execute(
        text("SELECT 1 FROM api_keys WHERE id = :id AND revoked_at IS NULL"), {"id": key_id}
    ).one_or_none()
    return found is not None


def begin_session(connection: Connection, key_id: int) -> str:
    """A new session of the holder of a key; returns its token. Removes those that have run out."""
    connection.execute(
        text("DELETE FROM sessions WHERE created_at < now() - make_interval(days => :days)"), {"days": SESSION_DAYS}
    )
    token = _random()
    connection.execute(
        text("INSERT INTO sessions (digest, key_id) VALUES (:digest, :key)"),
        {"digest": _digest(token), "key": key_id},
    )
    return token


def holder_of_session(connection: Connection, token: str, idle_hours: int) -> Holder | None:
    """Whose session this is; None when there is none, it has run out, or its key was revoked."""
    digest = _digest(token)
    row = connection.execute(
        text("""
            SELECT k.id, k.name, k.owner, k.role, s.used_at < now() - interval '1 minute' AS stale,
                   coalesce(k.used_at < now() - interval '10 minutes', true) AS key_stale
            FROM sessions s JOIN api_keys k ON k.id = s.key_id
            WHERE s.digest = :digest AND k.revoked_at IS NULL
              AND s.used_at > now() - make_interval(hours => :idle)
              AND s.created_at > now() - make_interval(days => :days)
        """),
        {"digest": digest, "idle": idle_hours, "days": SESSION_DAYS},
    ).one_or_none()
    if row is None:
        return None
    if row.stale:
        connection.execute(text("UPDATE sessions SET used_at = now() WHERE digest = :digest"), {"digest": digest})
    if row.key_stale:
        _note_use(connection, row.id)
    return Holder(row.id, row.name, row.owner, Role(row.role))


def end_session(connection: Connection, token: str) -> None:
    """Let nobody in any more with this token."""
    connection.execute(text("DELETE FROM sessions WHERE digest = :digest"), {"digest": _digest(token)})


def _note_use(connection: Connection, key_id: int) -> None:
    """Coarse on purpose: it says whether a key is still needed, not when somebody works, and costs no write each time.

    SKIP LOCKED: of many requests that find it stale at once, one writes and none waits.
    """
    connection.execute(
        text("""
            UPDATE api_keys SET used_at = now()
            WHERE id = (SELECT id FROM api_keys WHERE id = :id FOR UPDATE SKIP LOCKED)
        """),
        {"id": key_id},
    )


def _key(row: Row[Any]) -> Key:
    return Key(**{**row._mapping, "role": Role(row.role)})


def _random() -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(_RANDOM_CHARS))


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()

"""A request that is sent again under its Idempotency-Key: the job that the first one made."""

from uuid import UUID

from sqlalchemy import Connection, text

from jobs.errors import ConflictError
from jobs.records import Idempotency


class IdempotencyMismatchError(ConflictError):
    """The Idempotency-Key was used before with another request."""


class IdempotencyInFlightError(ConflictError):
    """A request with the same Idempotency-Key is still being worked on."""


def find_idempotent(connection: Connection, owner: str, idempotency: Idempotency) -> UUID | None:
    """The job that this key made before; holds the key for this transaction when there is none.

    Raises `IdempotencyInFlightError` and `IdempotencyMismatchError`.
    """
    known = job_of_key(connection, owner, idempotency.key)
    return None if known is None else if_same(known, idempotency)


def job_of_key(connection: Connection, owner: str, key: str) -> tuple[UUID, str] | None:
    """The job that a key made, with its fingerprint; holds the key for this transaction when there is none.

    Raises `IdempotencyInFlightError` while another transaction holds it.
    """
    held = connection.execute(
        text("SELECT pg_try_advisory_xact_lock(hashtextextended(:key, 0))"),
        {"key": f"{owner}\x1f{key}"},
    ).scalar_one()
    if not held:
        raise IdempotencyInFlightError("A request with this Idempotency-Key is still being worked on.")
    there = connection.execute(
        text("SELECT id, fingerprint FROM jobs WHERE owner = :owner AND idempotency_key = :key"),
        {"owner": owner, "key": key},
    ).one_or_none()
    return None if there is None else (there.id, there.fingerprint)


def if_same(known: tuple[UUID, str], idempotency: Idempotency) -> UUID:
    """The job, if the request is the one that made it. Raises `IdempotencyMismatchError` if not."""
    job_id, fingerprint = known
    if fingerprint != idempotency.read():
        raise IdempotencyMismatchError("This Idempotency-Key was used before with another request.")
    return job_id

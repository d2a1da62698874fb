"""What tests of keys share: an app that asks for them, and clients that have one."""

from dataclasses import dataclass, field
from typing import Any

from flask.testing import FlaskClient
from sqlalchemy import Engine
from werkzeug.test import TestResponse

from jobs import keys
from jobs.database import run
from jobs.states import Role
from tests.integration.api_support import V1

SECRET = "0123456789abcdef" * 4
OWN_PAGE = {"Sec-Fetch-Site": "same-origin", "Rubrika-Page": "1"}


def new_key(engine: Engine, name: str, *, owner: str | None = None, role: Role = Role.USER) -> str:
    """A key, as `rubrika keys create` prints it."""
    return run(engine, lambda connection: keys.create(connection, name, owner or name, role))[1]


@dataclass
class Keyed:
    """A client that sends a key with each request."""

    client: FlaskClient
    key: str
    headers: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.headers = {"Authorization": f"Bearer {self.key}"}

    def open(self, method: str, path: str, **options: Any) -> TestResponse:
        headers = self.headers | dict(options.pop("headers", {}))
        return self.client.open(path, method=method, headers=headers, **options)

    def get(self, path: str, **options: Any) -> TestResponse:
        return self.open("GET", path, **options)

    def post(self, path: str, **options: Any) -> TestResponse:
        # Read and closed, as a server does it.
        return self.open("POST", path, buffered=True, **options)


def sign_in(client: FlaskClient, key: str, **options: Any) -> TestResponse:
    """Sign the client in as a browser does, on our own page."""
    return client.post(f"{V1}/session", json={"key": key}, headers=OWN_PAGE, **options)

"""The cookie of a browser that is signed in: the token of its session, signed."""

from hashlib import sha256

from flask import Request, Response
from itsdangerous import BadSignature, Signer

from jobs.errors import StartError
from jobs.settings import MIN_SECRET_CHARS, Settings

_PLAIN = "rubrika"
_SECURE = "__Host-rubrika"
"""Over TLS. No other host, and nobody on the way of a plain request, can put a cookie of that name into a browser."""


class SessionCookie:
    """Reads and writes the cookie. A token that this service has not signed is never looked up."""

    def __init__(self, secret: str) -> None:
        self._signer = Signer(secret, salt="rubrika.session", key_derivation="hmac", digest_method=sha256)

    def read(self, request: Request) -> str | None:
        """The token that came with a request; None when there is none, or somebody else has made it."""
        value = request.cookies.get(_name(request), "")
        try:
            return self._signer.unsign(value).decode("ascii")
        except (BadSignature, UnicodeError):
            return None

    def write(self, request: Request, response: Response, token: str) -> None:
        """Let the browser keep the token until it is closed: no script sees it, no other site makes it be sent."""
        response.set_cookie(
            _name(request),
            self._signer.sign(token).decode("ascii"),
            secure=request.is_secure,
            httponly=True,
            samesite="Lax",
            path="/",
        )

    def remove(self, request: Request, response: Response) -> None:
        """Let the browser forget it."""
        response.delete_cookie(_name(request), secure=request.is_secure, httponly=True, samesite="Lax", path="/")


def secret_of(settings: Settings) -> str:
    """What signs the cookies. Raises `StartError` with one sentence when there is none that can be used."""
    secret = settings.secret_key
    if settings.secret_key_file is not None:
        try:
            secret = settings.secret_key_file.read_text().strip()
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not text"
            raise StartError(
                f"RUBRIKA_SECRET_KEY_FILE={settings.secret_key_file} cannot be read ({reason})."
            ) from error
    if len(secret) < MIN_SECRET_CHARS:
        raise StartError(
            "RUBRIKA_AUTH=keys needs a secret that signs the cookies of the page, the same for every API of this "
            f"service: write {MIN_SECRET_CHARS} random characters or more into a file (openssl rand -hex 32) and name "
            "that by RUBRIKA_SECRET_KEY_FILE."
        )
    return secret


def _name(request: Request) -> str:
    return _SECURE if request.is_secure else _PLAIN

"""What every request goes through before a view sees it: who sends it, from where, and how often.

Closed unless it is said otherwise: an address that is not named here needs a key.
"""

import logging
from ipaddress import IPv6Address, ip_address
from urllib.parse import quote, urlsplit

from flask import Flask, Request, g, redirect, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from api.callers import LOCAL, Caller, admit
from api.context import Context, context
from api.cookies import SessionCookie
from api.incoming import Body
from api.problems import ProblemError
from jobs import keys
from jobs.database import run
from jobs.errors import UnavailableError
from jobs.states import Role

log = logging.getLogger(__name__)

OPEN = frozenset(
    {
        "service.healthz",
        "service.healthz_root",
        "service.readyz",
        "service.readyz_root",
        "session.sign_in",
        "web.asset",
        "web.favicon",
        "web.login",
    }
)
"""Endpoints that ask nobody who comes: probes, and what the page of signing in is made of."""

METRICS = "/metrics"
"""For admins, and for whoever asks from this very machine, as a collector beside the API does."""

OWN_PAGE = "Rubrika-Page"
"""The header that our own page sends with what changes something. A form cannot send it, and neither can a script of
another site: its browser would ask first whether it may, which is never answered."""

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
STRANGER_BYTES = 1 << 14
"""The longest body that is read of who has no key: a key, as it is sent to sign in, is much shorter."""

REFUSALS_PER_MINUTE = 60
"""So often an address may come without a key that is known; then it is told to wait."""

_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


def install(app: Flask) -> None:
    """Let every request of `app` go through here. While keys are off everybody is the one owner."""

    @app.before_request
    def guard() -> BaseResponse | None:
        ctx = context()
        try:
            refuse_other_names(ctx)
            refuse_other_sites()
            if ctx.cookie is None:
                admit(LOCAL)
                return None
            return _let_in(ctx, ctx.cookie)
        except ProblemError:
            # So that a client which is still sending hears why it is refused, rather than that its pipe is broken.
            Body(request, ctx.settings.max_body_bytes).refuse()
            raise


def _let_in(ctx: Context, cookie: SessionCookie) -> BaseResponse | None:
    """Find out who comes and how often; the answer, for those who have to sign in first."""
    if request.endpoint in OPEN or (request.path == METRICS and _is_from_this_machine()):
        if request.method not in SAFE_METHODS:
            # Else a page of another site could sign its visitors in as somebody else, who then reads what they send.
            require_own_page()
            request.max_content_length = STRANGER_BYTES
        return None
    try:
        found = _caller(ctx, cookie)
    except UnavailableError:
        if _is_page() and cookie.read(request) is not None:
            return (
                None  # The page itself holds nothing of anybody's, and it can say what is wrong better than a problem.
            )
        raise
    if found is None:
        return _ask_for_key(ctx)
    admit(found)
    g.signed_in = found
    if found.by_cookie and request.method not in SAFE_METHODS:
        require_own_page()
    if request.path.startswith("/api/") and ctx.settings.max_requests_per_minute:
        _count(ctx, f"key:{found.key_id}", ctx.settings.max_requests_per_minute)
    if request.path == METRICS and found.role is not Role.ADMIN:
        raise ProblemError(403, "admins_only", "This is for admins: keys of the role `admin`.")
    return None


# --- who comes ------------------------------------------------------------------------------------------------------


def _caller(ctx: Context, cookie: SessionCookie) -> Caller | None:
    """The holder of the key in the request, else of the session in its cookie; None for nobody.

    A key that is sent counts alone, so that a program is never taken for the person whose browser it runs in.
    """
    scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        secret = secret.strip()
        if not keys.is_key(secret):
            return None
        holder = run(ctx.engine, lambda connection: keys.holder_of_key(connection, secret))
        return None if holder is None else Caller.of(holder, by_cookie=False)
    token = cookie.read(request)
    if token is None:
        return None
    hours = ctx.settings.session_hours
    holder = run(ctx.engine, lambda connection: keys.holder_of_session(connection, token, hours))
    return None if holder is None else Caller.of(holder, by_cookie=True)


def _ask_for_key(ctx: Context) -> BaseResponse:
    """People are led to the page of signing in and back; programs, and what our pages load, get a problem."""
    if _is_page() or (request.method in SAFE_METHODS and _is_browsing()):
        return redirect(_sign_in_address(), 303)
    count_refusal(ctx)
    note_refusal()
    raise unknown_key("Authorization" in request.headers)


def unknown_key(was_sent: bool) -> ProblemError:
    """401. `was_sent`: something was sent as a key, and it opens nothing."""
    detail = "This key is not known, or was revoked." if was_sent else "Send your key: `Authorization: Bearer rbk_...`."
    challenge = 'Bearer realm="rubrika"' + (', error="invalid_token"' if was_sent else "")
    return ProblemError(
        401, "unknown_key" if was_sent else "key_missing", detail, headers={"WWW-Authenticate": challenge}
    )


def _is_page() -> bool:
    return request.blueprint == "web" and request.method in SAFE_METHODS


def _is_browsing() -> bool:
    return not request.path.startswith("/api/") and "text/html" in request.headers.get("Accept", "")


def _sign_in_address() -> str:
    asked = request.script_root + request.full_path.rstrip("?")
    return f"{url_for('web.login')}?next={quote(asked, safe='/')}"


def _is_from_this_machine() -> bool:
    """Whether a program of this machine asks, and not somebody through a proxy of whom nothing is known."""
    forwarded = any(name in request.headers for name in ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via"))
    return not forwarded and _is_loopback(request.remote_addr or "")


# --- from where -----------------------------------------------------------------------------------------------------


def refuse_other_names(ctx: Context) -> None:
    """Without keys, on loopback, only the names of this machine count.

    Else a page of another site could let its own name point to 127.0.0.1 and be taken for ours (DNS rebinding).
    """
    settings = ctx.settings
    if settings.auth == "off" and settings.is_loopback and not settings.allow_open and not settings.trusted_proxies:
        name = urlsplit(f"//{request.host}").hostname or ""
        if name not in _LOOPBACK_NAMES and name != settings.host and not _is_loopback(name):
            raise ProblemError(
                403,
                "unknown_host",
                f"This service is not called {name[:80]!r}. If a proxy of yours calls it so, set RUBRIKA_ALLOW_OPEN=1.",
            )


def refuse_other_sites() -> None:
    """A page of another site could make a visitor's browser send something here; browsers say where from."""
    unsafe = request.method not in SAFE_METHODS
    if unsafe and request.headers.get("Sec-Fetch-Site") in {"cross-site", "same-site"}:
        raise ProblemError(403, "cross_site", "Requests from pages of other sites are not accepted.")


def require_own_page() -> None:
    """What a cookie vouches for must come from our own page, by its header and by what the browser says of its origin.

    Raises a problem (403).
    """
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    same = site == "same-origin" if site is not None else origin is not None and _netloc(origin) == request.host
    if not same or OWN_PAGE not in request.headers:
        raise ProblemError(
            403,
            "cross_site",
            "With a session, changes are accepted from this service's own pages only; programs send their key. "
            "Behind a proxy, let it pass `Host` on.",
        )


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


# --- how often ------------------------------------------------------------------------------------------------------


def count_refusal(ctx: Context) -> None:
    """Count one who came without a key that is known. Raises a problem (429) when an address goes on doing so."""
    _count(ctx, f"address:{_network(request)}", REFUSALS_PER_MINUTE)


def note_refusal() -> None:
    """For the log, which never sees what was sent: neither a key nor an address that somebody has made up."""
    log.warning("somebody at %s came to %s without a key that is known", request.remote_addr, request.endpoint)


def _count(ctx: Context, name: str, most: int) -> None:
    taken = ctx.limiter.take(name, most)
    g.taken = taken
    if not taken.allowed:
        raise ProblemError(
            429,
            "too_many_requests",
            f"No more than {most} requests a minute, please.",
            headers={"Retry-After": str(max(1, -int(-taken.retry_after // 1)))},
        )


def _network(request: Request) -> str:
    """The address of who asks; of IPv6 the network, since one who has an address there has 2**64."""
    try:
        address = ip_address(request.remote_addr or "")
    except ValueError:
        return "unknown"
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        # As a socket of both kinds names who comes by IPv4: all of them have one network then.
        address = address.ipv4_mapped
    return address.exploded[:19] if isinstance(address, IPv6Address) else str(address)


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False

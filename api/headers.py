"""The headers of every answer: what a browser may do with it, who may keep it, and how often one may ask."""

from math import ceil

from flask import Flask, Response, g, request

from jobs.limiting import WINDOW_SECONDS, Taken

# Nothing from outside, nothing inline: what a page needs is a file of ours.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; form-action 'self'; base-uri 'none'; object-src 'none'; frame-ancestors 'none'"
)

FIXED = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
}
"""Said with every answer, whatever it is; no view may say anything else."""

HSTS = "max-age=31536000; includeSubDomains"
"""Said over TLS alone, where it means something."""


def install(app: Flask) -> None:
    """Put the headers on every answer of `app`."""

    @app.after_request
    def set_headers(response: Response) -> Response:
        headers = response.headers
        for name, value in FIXED.items():
            headers[name] = value
        if request.is_secure:
            headers["Strict-Transport-Security"] = HSTS
        if request.path.startswith("/api/"):
            headers.setdefault("Cache-Control", "no-store" if response.status_code != 304 else "no-cache")
            headers.add("Vary", "Authorization, Cookie")
        elif "signed_in" in g:
            # A page says who is signed in, and the way back after signing out must not show it.
            headers["Cache-Control"] = "no-store"
        taken: Taken | None = g.get("taken")
        if taken is not None:
            headers["RateLimit-Policy"] = f'"minute";q={taken.most};w={WINDOW_SECONDS}'
            # Rounded up: after 0 seconds not all of it would be there. What a difference of floats adds is no second.
            headers["RateLimit"] = f'"minute";r={taken.left};t={ceil(taken.full_after - 1e-6)}'
        return response

"""Headers every answer carries: what a page may load, who may frame it, how long it may be kept."""

from flask import Flask, Response, request

from kernel.settings import settings

POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)


def install(app: Flask) -> None:
    """Set the headers on every response that does not set them itself."""

    @app.after_request
    def _set(response: Response) -> Response:
        headers = response.headers
        # a page whose own policy names who may frame it would be contradicted by this
        if "frame-ancestors" not in headers.get("Content-Security-Policy", ""):
            headers.setdefault("X-Frame-Options", "DENY")
        headers.setdefault("Content-Security-Policy", POLICY)
        headers.setdefault("X-Content-Type-Options", "nosniff")
        headers.setdefault("Referrer-Policy", "same-origin")
        headers.setdefault("Permissions-Policy", "camera=(), microphone=(), geolocation=()")
        if settings().base_url.startswith("https://"):
            headers.setdefault("Strict-Transport-Security", "max-age=31536000")
        if not request.path.startswith("/assets/"):
            headers.setdefault("Cache-Control", "no-store")
        return response

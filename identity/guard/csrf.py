"""Did they mean it: tokens bound to the browser, and a look at where a request came from."""

from urllib.parse import urlsplit

from flask import g, request

from identity import proofs
from identity.guard import cookies
from kernel.errors import N_, Forbidden
from kernel.settings import settings

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


def token(session_id: str | None) -> str:
    """Return the token for this browser's forms; a nameless browser gets a visit cookie for it."""
    if session_id is not None:
        return proofs.sign("csrf", f"session|{session_id}")
    if "new_visit" not in g and cookies.visit() is None:
        g.new_visit = proofs.new_secret()
    return proofs.sign("csrf", f"visit|{g.get('new_visit') or cookies.visit()}")


def check(session_id: str | None) -> None:
    """Refuse an unsafe request from another site or without this browser's token."""
    if request.method in SAFE_METHODS:
        return
    check_place()
    sent = sent_token()
    bound = f"session|{session_id}" if session_id is not None else f"visit|{cookies.visit()}"
    if not sent or (session_id is None and cookies.visit() is None):
        raise stale()
    if not proofs.is_signed("csrf", bound, sent):
        raise stale()


def sent_token() -> str:
    """Return the token that came along, by header or by form."""
    return request.headers.get("X-CSRF-Token") or request.form.get("csrf_token", "")


def check_place() -> None:
    """Refuse a request that another website's page has sent."""
    if not _comes_from_here():
        raise Forbidden(
            N_("This request came from another website"),
            N_("We did nothing. If you meant it, do it again on our own page."),
            code="cross_site",
        )


def _comes_from_here() -> bool:
    """Judge by what browsers say and scripts cannot forge; silence is left to the token."""
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = request.headers.get("Origin")
    if origin is None:
        return True
    ours = urlsplit(settings().base_url)
    sent = urlsplit(origin)
    if sent.scheme not in ("http", "https"):
        return False
    return sent.netloc in (request.host, ours.netloc)


def stale() -> Forbidden:
    """Say that a form's token is not this browser's."""
    return Forbidden(
        N_("This page was open for too long"),
        N_("We did nothing. Go back, reload the page and send it again."),
        code="csrf",
    )

"""The cookies of identity: the session's, the anonymous visit's and the known browser's."""

from flask import Response, g, request

from identity import proofs, sessions
from kernel.settings import settings

DEVICE_SECONDS = 365 * 86_400


def is_secure() -> bool:
    """Say whether the hub is reached over https, so that cookies may insist on it."""
    return settings().base_url.startswith("https://")


def _name(name: str) -> str:
    # The prefix makes the browser refuse a cookie of this name set by a neighbouring subdomain.
    return f"__Host-{name}" if is_secure() else name


def session_name() -> str:
    """Name the session cookie."""
    return _name("yf_session")


def session_secret() -> str | None:
    """Return the session secret this browser sent, if any."""
    return request.cookies.get(session_name()) or None


def set_session(response: Response, secret: str) -> None:
    """Hand the browser its session's secret."""
    g.session_is_set = True
    _set(response, session_name(), secret, int(sessions.ABSOLUTE.total_seconds()))


def clear_session(response: Response) -> None:
    """Make the browser forget its session."""
    g.session_is_set = True
    response.delete_cookie(
        session_name(), path="/", secure=is_secure(), httponly=True, samesite="Lax"
    )


def visit() -> str | None:
    """Return the random text that marks an anonymous browser, if it has one."""
    return request.cookies.get(_name("yf_visit")) or None


def set_visit(response: Response, text: str) -> None:
    """Mark an anonymous browser until it is closed."""
    _set(response, _name("yf_visit"), text, None)


def set_language(response: Response, language: str) -> None:
    """Let the pages speak the person's own language."""
    _set(response, "yf_lang", language, 31_536_000)


def known_device(email: str) -> str | None:
    """Return the mark of a browser that has signed in to this account before, if it is genuine."""
    text, _, mark = request.cookies.get(_name("yf_device"), "").partition(".")
    if text and proofs.is_signed("device", f"{text}|{email.strip().casefold()}", mark):
        return text
    return None


def set_device(response: Response, email: str) -> None:
    """Let this browser be known to the account it has just signed in to."""
    text = known_device(email) or proofs.new_secret()
    mark = proofs.sign("device", f"{text}|{email.strip().casefold()}")
    _set(response, _name("yf_device"), f"{text}.{mark}", DEVICE_SECONDS)


def _set(response: Response, name: str, value: str, max_age_seconds: int | None) -> None:
    response.set_cookie(
        name,
        value,
        max_age=max_age_seconds,
        path="/",
        secure=is_secure(),
        httponly=True,
        samesite="Lax",
    )

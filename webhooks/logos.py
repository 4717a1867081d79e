"""Logos: the picture that stands at the head of an organization's portals."""

import base64
from typing import Final

from sqlalchemy import delete
from sqlmodel import Session

from kernel.errors import N_, FieldError, Invalid
from webhooks.tables import PORTAL_LOGO, PortalLogo

MAX_BYTES: Final = 64 * 1024  # it goes along with every page of the portal
# No SVG: that is a program as much as a picture.
_KINDS = (
    (b"\x89PNG\r\n\x1a\n", b"", "image/png"),
    (b"\xff\xd8\xff", b"", "image/jpeg"),
    (b"RIFF", b"WEBP", "image/webp"),
)
_KIND = N_("Choose a PNG, JPEG or WebP picture")
_SIZE = N_("A logo may have 64 kB; save it smaller")


def choose(session: Session, organization_id: str, content: bytes) -> PortalLogo:
    """Show this picture from now on; raises Invalid for what is too large or no picture."""
    message = _SIZE if len(content) > MAX_BYTES else None if _kind_of(content) else _KIND
    if message:
        errors: list[FieldError] = [{"pointer": "/logo", "message": message}]
        raise Invalid(errors=errors)
    found = find(session, organization_id)
    if found is None:
        found = PortalLogo(
            organization_id=organization_id,
            id=organization_id,
            content_type="",
            content=b"",
        )
    found.content_type, found.content = _kind_of(content), content
    session.add(found)
    session.flush()
    return found


def _kind_of(content: bytes) -> str:
    for start, later, kind in _KINDS:
        if content.startswith(start) and (not later or content[8:12] == later):
            return kind
    return ""


def find(session: Session, organization_id: str) -> PortalLogo | None:
    """Return the organization's logo, None when it has none."""
    return session.get(PortalLogo, (organization_id, organization_id))


def remove(session: Session, organization_id: str) -> None:
    """Show no logo any more."""
    session.execute(delete(PORTAL_LOGO).where(PORTAL_LOGO.c.organization_id == organization_id))


def address_of(logo: PortalLogo | None) -> str | None:
    """Return the picture as an address that needs no request, which a frame could not prove."""
    if logo is None:
        return None
    return f"data:{logo.content_type};base64,{base64.b64encode(logo.content).decode()}"

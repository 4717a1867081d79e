"""Headers of the owner's own that go along with every message to an endpoint.

A row is {"name": …, "value": …}; a secret value stands sealed under "sealed" instead.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlmodel import Session

from kernel import vault
from kernel.errors import N_, FieldError, Invalid
from kernel.tenancy import find
from webhooks.tables import Endpoint

MOST_HEADERS = 20
MOST_BYTES = 8192  # of all names and values: servers refuse much more
MASK = "••••••"
HeaderRow = Mapping[str, str]

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
# What the connection, the message and its signature say themselves; nobody else may.
_TAKEN = re.compile(
    r"connection|content-(?:type|length|encoding|md5)|date|expect|host|keep-alive|te|trailer"
    r"|transfer-encoding|upgrade|http2-settings|user-agent|proxy-.*|webhook-.*|svix-.*|ce-.*",
    re.IGNORECASE,
)


def to_rows(
    wanted: Sequence[Mapping[str, Any]],
    organization_id: str,
    endpoint_id: str,
    kept: Iterable[HeaderRow] = (),
) -> list[dict[str, str]]:
    """Check headers and seal the secret ones; one without a value keeps what it had.

    Raises Invalid with a pointer to each header that is refused.
    """
    before = {row["name"].lower(): row for row in kept}
    rows: list[dict[str, str]] = []
    errors: list[FieldError] = []
    seen: set[str] = set()
    for number, one in enumerate(wanted):
        name, value = str(one["name"]).strip(), one.get("value")
        old = before.get(name.lower())
        part, message = _refusal(name, value, old, seen)
        if message:
            errors.append({"pointer": f"/headers/{number}/{part}", "message": message})
            continue
        seen.add(name.lower())
        if value is None and old is not None:
            rows.append({**old, "name": name})
        elif one.get("is_secret"):
            context = _context(organization_id, endpoint_id, name)
            rows.append({"name": name, "sealed": vault.seal(str(value), context)})
        else:
            rows.append({"name": name, "value": str(value)})
    size = sum(len(one["name"]) + len(one.get("value") or "") for one in wanted)
    if len(wanted) > MOST_HEADERS or size > MOST_BYTES:
        errors.append({"pointer": "/headers", "message": N_("At most 20 headers and 8 kB in all")})
    if errors:
        raise Invalid(errors=errors)
    return rows


def _refusal(
    name: str, value: str | None, old: HeaderRow | None, seen: set[str]
) -> tuple[str, str | None]:
    if not _NAME.fullmatch(name):
        return "name", N_("A header name has letters, digits and hyphens only")
    if _TAKEN.fullmatch(name):
        return "name", N_("This header belongs to the message itself; choose another name")
    if name.lower() in seen:
        return "name", N_("This header is there twice")
    if value is None and old is None:
        return "value", N_("This header needs a value")
    if value is not None and not _VALUE.fullmatch(value):
        return "value", N_("Use printable ASCII characters, with no space at either end")
    return "", None


def shown(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the headers as their owner sees them: secret values are null."""
    return [
        {
            "name": row["name"],
            "value": row.get("value"),
            "is_secret": row.get("is_secret", "sealed" in row),
        }
        for row in rows
    ]


def read_headers(
    rows: Iterable[HeaderRow], organization_id: str, endpoint_id: str
) -> dict[str, str]:
    """Return the headers as they are sent."""
    return {
        row["name"]: _opened(row["sealed"], _context(organization_id, endpoint_id, row["name"]))
        if "sealed" in row
        else row["value"]
        for row in rows
    }


def without_secrets(sent: Mapping[str, str], rows: Iterable[HeaderRow]) -> dict[str, str]:
    """Return sent headers with a mask for the secret values."""
    return {**sent, **{row["name"]: MASK for row in rows if "sealed" in row}}


def _context(organization_id: str, endpoint_id: str, name: str) -> str:
    return f"{organization_id}|endpoint|{endpoint_id}|header:{name.lower()}"


@lru_cache(maxsize=2048)
def _opened(sealed: str, context: str) -> str:
    return vault.open_sealed(sealed, context).decode()


def give(
    session: Session,
    organization_id: str,
    endpoint_id: str,
    header: Mapping[str, Any],
) -> Endpoint:
    """Add one header of the owner's own, or replace the one of that name."""
    endpoint = find(session, Endpoint, organization_id, endpoint_id)
    others = _headers_but(endpoint, str(header["name"]))
    try:
        endpoint.headers = to_rows(
            [*others, header], organization_id, endpoint_id, endpoint.headers
        )
    except Invalid as refused:
        for error in refused.errors:
            error["pointer"] = error["pointer"].replace(f"/headers/{len(others)}", "")
        raise
    return endpoint


def take_away(session: Session, organization_id: str, endpoint_id: str, name: str) -> Endpoint:
    """Send a header no more; fine when it is gone already."""
    endpoint = find(session, Endpoint, organization_id, endpoint_id)
    endpoint.headers = to_rows(
        _headers_but(endpoint, name), organization_id, endpoint_id, endpoint.headers
    )
    return endpoint


def _headers_but(endpoint: Endpoint, name: str) -> list[dict[str, Any]]:
    same = name.strip().lower()
    return [one for one in shown(endpoint.headers) if one["name"].lower() != same]

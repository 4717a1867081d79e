"""Addresses: from the secret path of a request to the source behind it, whoever's that is.

This is the one look-up over all tenants in intake: the path itself is the proof of the tenant.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import select
from sqlmodel import Session, col

from identity.tables import Organization
from kernel import clock, documents, vault
from webhooks.recipes.reading import Given
from webhooks.tables import SOURCE, Source


@dataclass(frozen=True, slots=True)
class OpenSource:
    """A source ready for intake: its secrets opened, nothing tied to a database session."""

    organization_id: str
    id: str
    scheme: str
    secrets: tuple[str, ...]
    scheme_options: Mapping[str, Any]
    type_rules: Mapping[str, Any]
    rejects_unknown: bool
    is_paused: bool
    is_suspended: bool = False  # its organization is
    given: Given = field(default_factory=Given)  # what a recipe's owner filled in


def digest_of(token: str) -> str:
    """Return what an address is looked up by."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def look_up(session: Session, token: str) -> OpenSource | None:
    """Find the source behind an address and open its secrets; None when there is none."""
    statement = (
        select(Source, col(Organization.state))
        .outerjoin(Organization, col(Organization.id) == SOURCE.c.organization_id)
        .where(SOURCE.c.token_digest == digest_of(token), SOURCE.c.state != "closed")
    )
    found = session.execute(statement).one_or_none()
    if found is None:
        return None
    return replace(opened(found[0]), is_suspended=found[1] == "suspended")


def opened(source: Source) -> OpenSource:
    """Open a source's secrets; one that was rotated out works until its time is over."""
    secrets = []
    if source.secret_sealed:
        secrets.append(_open(source, source.secret_sealed, "secret"))
    until = source.previous_secret_until
    if source.previous_secret_sealed and until is not None and until > clock.now():
        secrets.append(_open(source, source.previous_secret_sealed, "previous_secret"))
    given = Given()
    if source.scheme == "recipe":
        given = Given(*(documents.parse(one.encode()) for one in secrets))
        secrets = _hidden(source.scheme_options, given)
    return OpenSource(
        organization_id=source.organization_id,
        id=source.id,
        scheme=source.scheme,
        secrets=tuple(secrets),
        scheme_options=source.scheme_options,
        type_rules=source.type_rules,
        rejects_unknown=source.unknown_types == "reject",
        is_paused=source.state == "paused",
        given=given,
    )


def _hidden(options: Mapping[str, Any], given: Given) -> list[str]:
    """Return which of the values that were filled in are secret."""
    asked = options.get("secrets", {})
    return [
        value
        for filled in (given.now, given.before)
        for name, value in filled.items()
        if value and asked.get(name, {}).get("secret", True)
    ]


def context_of(source: Source, column: str) -> str:
    """Name the place a sealed text belongs to, so that it opens nowhere else."""
    return f"{source.organization_id}|source|{source.id}|{column}"


def _open(source: Source, sealed: str, column: str) -> str:
    return vault.open_sealed(sealed, context_of(source, column)).decode()

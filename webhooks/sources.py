"""Sources: addresses where events come in, who may use them and how they prove it."""

import re
import secrets as randomness
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlmodel import Session

from kernel import clock, vault
from kernel.errors import N_, Conflict, FieldError, Invalid
from kernel.ids import new_id
from kernel.settings import settings
from kernel.tenancy import find
from webhooks import addresses, fillings, signing, type_rules
from webhooks.errors import RecipeInvalid
from webhooks.openings import RECIPE
from webhooks.recipes.options import check_options
from webhooks.tables import EVENT, SOURCE, Event, Source

OVERLAP = fillings.OVERLAP
POLL = "poll"  # nobody sends: the hub asks the app, and no signature opens the address
_WITHOUT_SECRET = ("none", POLL)
UNKNOWN_TYPES = ("accept", "reject")
_OPTIONS = {
    "header", "prefix", "algorithm", "encoding", "style", "timestamp_header", "signed",
    "tolerance_seconds", "id_header", "secret_encoding", "dedupe",
}  # fmt: skip


def create(
    session: Session,
    organization_id: str,
    *,
    name: str,
    scheme: str = "standard_webhooks",
    secret: str | None = None,
    scheme_options: Mapping[str, Any] | None = None,
    rules: Mapping[str, Any] | None = None,
    unknown_types: str = "accept",
    connection_id: str | None = None,
    connector_key: str | None = None,
    trigger_key: str | None = None,
    filled: Mapping[str, str] | None = None,
) -> Source:
    """Open a new address; a secret is made when none is given and the scheme needs one.

    `filled` are the values that a recipe asks for.
    """
    _check(scheme, scheme_options or {}, rules or {}, unknown_types)
    source = Source(
        organization_id=organization_id,
        id=new_id("src"),
        name=name.strip()[:200],
        token_digest="",
        token_sealed="",
        scheme=scheme,
        scheme_options=dict(scheme_options or {}),
        type_rules=dict(rules or {"from": "envelope"}),
        unknown_types=unknown_types,
        connection_id=connection_id,
        connector_key=connector_key,
        trigger_key=trigger_key,
    )
    _set_token(source)
    if scheme == RECIPE:
        fillings.put(source, filled or {})
    elif scheme not in _WITHOUT_SECRET:
        _set_secret(source, secret)
    session.add(source)
    return source


def change(
    session: Session,
    organization_id: str,
    source_id: str,
    *,
    name: str | None = None,
    scheme_options: Mapping[str, Any] | None = None,
    rules: Mapping[str, Any] | None = None,
    unknown_types: str | None = None,
) -> Source:
    """Change what is given and leave the rest."""
    source = get(session, organization_id, source_id)
    _check(
        source.scheme,
        source.scheme_options if scheme_options is None else scheme_options,
        source.type_rules if rules is None else rules,
        unknown_types or source.unknown_types,
    )
    if name is not None:
        source.name = name.strip()[:200]
    if scheme_options is not None:
        source.scheme_options = dict(scheme_options)
    if rules is not None:
        source.type_rules = dict(rules)
    if unknown_types is not None:
        source.unknown_types = unknown_types
    return source


def _check(
    scheme: str, options: Mapping[str, Any], rules: Mapping[str, Any], unknown_types: str
) -> None:
    if scheme == RECIPE:
        _check_recipe(options, unknown_types)
        type_rules.check(rules)
        return
    errors: list[FieldError] = []
    if scheme not in signing.SCHEMES and scheme != POLL:
        errors.append({"pointer": "/scheme", "message": N_("This is not one of the ways")})
    errors += [
        {"pointer": f"/scheme_options/{name}", "message": N_("There is no such option")}
        for name in sorted(set(options) - _OPTIONS)
    ]
    if options.get("algorithm", "sha256") not in ("sha256", "sha512"):
        errors.append(
            {"pointer": "/scheme_options/algorithm", "message": N_("Use sha256 or sha512")}
        )
    if "{body}" not in str(options.get("signed", "{body}")):
        errors.append(
            {"pointer": "/scheme_options/signed", "message": N_("The body must be signed")}
        )
    if not re.fullmatch(r"[0-9]{1,4}", str(options.get("tolerance_seconds", 300))):
        errors.append(
            {"pointer": "/scheme_options/tolerance_seconds", "message": N_("A number is needed")}
        )
    if unknown_types not in UNKNOWN_TYPES:
        errors.append({"pointer": "/unknown_types", "message": N_("This is not one of the ways")})
    if errors:
        raise Invalid(errors=errors)
    type_rules.check(rules)


def _check_recipe(options: Mapping[str, Any], unknown_types: str) -> None:
    found = check_options(options)
    if found:
        raise RecipeInvalid(found, "/scheme_options")
    if unknown_types not in UNKNOWN_TYPES:
        message = N_("This is not one of the ways")
        raise Invalid(errors=[{"pointer": "/unknown_types", "message": message}])


def get(session: Session, organization_id: str, source_id: str) -> Source:
    """Return the organization's source; raises NotFound."""
    return find(session, Source, organization_id, source_id)


def maybe(session: Session, organization_id: str, source_id: str | None) -> Source | None:
    """Return the organization's source, or None when there is none."""
    return session.get(Source, (organization_id, source_id)) if source_id else None


def listing(organization_id: str) -> Any:
    """Select the organization's sources that are not closed, for a page of them."""
    return Source.of(organization_id).where(SOURCE.c.state != "closed")


def last_received(
    session: Session, organization_id: str, source_ids: Sequence[str]
) -> dict[str, datetime]:
    """Return when each source last took something in; sources that never did are left out."""
    found = session.execute(
        select(EVENT.c.source_id, func.max(EVENT.c.received_at))
        .where(EVENT.c.organization_id == organization_id, EVENT.c.source_id.in_(source_ids))
        .group_by(EVENT.c.source_id)
    )
    return {row[0]: row[1] for row in found}


def recent_events(session: Session, organization_id: str, source_id: str) -> list[Event]:
    """Return the last few events of a source, newest first."""
    statement = Event.of(organization_id).where(
        EVENT.c.source_id == source_id, EVENT.c.state != "archived"
    )
    return list(session.execute(statement.order_by(EVENT.c.id.desc()).limit(10)).scalars())


def rotate_token(session: Session, organization_id: str, source_id: str) -> Source:
    """Give the source a new address; the old one stops at once."""
    source = get(session, organization_id, source_id)
    _set_token(source)
    return source


def rotate_secret(
    session: Session, organization_id: str, source_id: str, secret: str | None = None
) -> Source:
    """Give the source a new secret; the old one goes on working for a day."""
    source = get(session, organization_id, source_id)
    if source.scheme in _WITHOUT_SECRET:
        raise Invalid(detail=N_("This source has no secret"))
    if source.scheme == RECIPE:
        raise Invalid(detail=N_("This source has several values; say which of them are new"))
    if source.secret_sealed is not None:
        old = secret_of(source) or ""
        source.previous_secret_sealed = _seal(source, "previous_secret", old)
        source.previous_secret_until = clock.now() + OVERLAP
    _set_secret(source, secret)
    return source


def set_state(session: Session, organization_id: str, source_id: str, state: str) -> Source:
    """Pause the source or make it active again."""
    source = get(session, organization_id, source_id)
    if source.state == "closed":
        raise Conflict(detail=N_("This source is closed for good; open a new one"))
    source.state = "paused" if state == "paused" else "active"
    return source


def close(session: Session, organization_id: str, source_id: str) -> None:
    """Shut an address for good: unused it goes, with events in it stays, closed, for their sake."""
    source = maybe(session, organization_id, source_id)
    if source is None:
        return
    # also by what remains of events that left for the archive
    used = Event.of(organization_id).where(EVENT.c.source_id == source_id).limit(1)
    if session.execute(used).first() is not None:
        source.state = "closed"
    else:
        session.delete(source)


def url_of(source: Source) -> str:
    """Return the full address events are sent to; it is a secret."""
    token = vault.open_sealed(source.token_sealed, addresses.context_of(source, "token")).decode()
    return f"{settings().base_url}/in/{token}"


def secret_of(source: Source) -> str | None:
    """Return the shared secret as its owner sees it; None when there is none, or several."""
    if source.secret_sealed is None or source.scheme == RECIPE:
        return None
    return vault.open_sealed(source.secret_sealed, addresses.context_of(source, "secret")).decode()


def is_weak(source: Source) -> bool:
    """Tell whether somebody who once saw a message could send one, too."""
    return source.scheme in {"none", "token"}


def _set_token(source: Source) -> None:
    token = randomness.token_urlsafe(24)
    source.token_digest = addresses.digest_of(token)
    source.token_sealed = _seal(source, "token", token)


def _set_secret(source: Source, secret: str | None) -> None:
    if secret is not None:
        signing.check_secret(source.scheme, secret, source.scheme_options)
    source.secret_sealed = _seal(source, "secret", secret or signing.new_secret())


def _seal(source: Source, column: str, text: str) -> str:
    return vault.seal(text, addresses.context_of(source, column))

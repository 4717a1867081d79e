"""Fillings: the values that a source's recipe asks its owner for, kept sealed with the source."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from sqlmodel import Session

from kernel import clock, documents, vault
from kernel.errors import N_, Invalid
from kernel.tenancy import find
from webhooks import addresses
from webhooks.errors import RecipeInvalid
from webhooks.recipes.options import check_filled
from webhooks.tables import Source

OVERLAP = timedelta(hours=24)


def put(source: Source, filled: Mapping[str, str]) -> None:
    """Seal what was filled in with a new source; raises Invalid."""
    _check(source, filled)
    source.secret_sealed = _sealed(source, "secret", filled)


def get(source: Source) -> dict[str, str]:
    """Return what is filled in, as its owner sees it; {} for a source without a recipe."""
    if source.scheme != "recipe" or source.secret_sealed is None:
        return {}
    return dict(addresses.opened(source).given.now)


def renew(
    session: Session, organization_id: str, source_id: str, filled: Mapping[str, str]
) -> Source:
    """Replace some values; those they replace go on working for a day. Raises NotFound, Invalid."""
    source = find(session, Source, organization_id, source_id)
    if source.scheme != "recipe":
        raise Invalid(detail=N_("This source has no such values"))
    given = addresses.opened(source).given
    now = {**given.now, **filled}
    _check(source, now)
    replaced = {name: one for name, one in given.now.items() if now[name] != one}
    before = {**given.before, **replaced}
    if before:
        source.previous_secret_sealed = _sealed(source, "previous_secret", before)
        source.previous_secret_until = clock.now() + OVERLAP
    source.secret_sealed = _sealed(source, "secret", now)
    return source


def asked(source_options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what a recipe asks for, for a form: name, title, help, is_secret, is_optional."""
    return [
        {
            "name": name,
            "title": one["title"],
            "help": one.get("help", ""),
            "is_secret": one.get("secret", True),
            "is_optional": bool(one.get("optional")),
        }
        for name, one in source_options.get("secrets", {}).items()
    ]


def _check(source: Source, filled: Mapping[str, str]) -> None:
    found = check_filled(source.scheme_options, filled)
    if found:
        raise RecipeInvalid(found, "/filled")


def _sealed(source: Source, column: str, filled: Mapping[str, str]) -> str:
    text = documents.dump(dict(filled)).decode()
    return vault.seal(text, addresses.context_of(source, column))

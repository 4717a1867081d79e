"""Listings: an App's shelf page, with the facets and the words it is found by."""

from typing import Any

from sqlalchemy import select
from sqlmodel import Session, col

from catalog import search, slots
from catalog.tables import App, Listing, Release
from kernel.errors import N_, NotFound

_OFFERED = {"yes", "plugin", "paid"}


def put(
    session: Session,
    app: App,
    *,
    tagline: dict[str, str],
    description: dict[str, str] | None = None,
    release: Release | None = None,
) -> Listing:
    """Put an App on the shelf, or renew its page, and index it for search."""
    statement = select(Listing).where(col(Listing.app_id) == app.id)
    listing: Listing | None = session.execute(statement).scalar_one_or_none()
    if listing is None:
        listing = Listing(app_id=app.id, tagline=tagline, facets={})
    return fill(listing, app, tagline=tagline, description=description, release=release)


def fill(
    listing: Listing,
    app: App,
    *,
    tagline: dict[str, str],
    description: dict[str, str] | None = None,
    release: Release | None = None,
) -> Listing:
    """Write everything a Listing derives from its App; the caller adds it to the session."""
    listing.tagline, listing.description = tagline, description
    listing.release_id = release.id if release else listing.release_id
    listing.state = "published"
    listing.facets = facets_of(app, release.manifest if release else None)
    names = app.name
    pinyin = search.pinyin_words(names.get("zh", ""))
    listing.search_name = search.index_text(names.get("zh"), names.get("en"), app.key, pinyin)
    listing.search_tagline = search.index_text(*tagline.values())
    listing.search_body = search.index_text(*(description or {}).values(), *_surroundings(app))
    return listing


def _surroundings(app: App) -> list[str]:
    """Return the names of an App's slots, tasks and layer, by which it should be found too."""
    subs, layers = slots.all_sub_scenarios(), slots.layer_names()
    words: list[str] = []
    for names in (
        *(slots.slot_names().get(slot_id, {}) for slot_id in app.slots),
        *(subs[sub_id].name for sub_id in app.sub_scenarios if sub_id in subs),
        layers.get(app.layer, {}),
    ):
        words += names.values()
    licence = app.facts.get("licence") or {}
    return [*words, str(licence.get("spdx", ""))]


def facets_of(app: App, manifest: dict[str, Any] | None = None) -> dict[str, list[str]]:
    """Return the values an App is filtered by, one list per facet."""
    facts = app.facts
    sso = facts.get("sso") or {}
    webhooks = (facts.get("webhooks") or {}).get("support")
    sign_on = [p for p in ("oidc", "saml", "ldap", "scim") if sso.get(p) in _OFFERED]
    if manifest and manifest.get("sign_on"):
        sign_on = [manifest["sign_on"]["protocol"]]
    if manifest and (manifest.get("connector") or manifest.get("event_types", {}).get("sends")):
        webhooks = "yes"
    return {
        "slot": list(app.slots),
        "sub_scenario": list(app.sub_scenarios),
        "layer": [app.layer],
        "licence": [(facts.get("licence") or {}).get("kind", "unknown")],
        "deployment": list(facts.get("deployment") or []),
        "size": list(facts.get("for_sizes") or []),
        "sso": sign_on or ["none"],
        "webhooks": [webhooks or "unknown"],
        "chinese_ui": [facts.get("chinese_ui") or "unknown"],
    }


def unpublish(session: Session, app_id: str) -> Listing:
    """Take an App off the shelf; organizations that use it keep it."""
    statement = select(Listing).where(col(Listing.app_id) == app_id)
    listing: Listing | None = session.execute(statement).scalar_one_or_none()
    if listing is None:
        raise NotFound(N_("This app is not on the shelf"))
    listing.state = "unpublished"
    session.add(listing)
    return listing

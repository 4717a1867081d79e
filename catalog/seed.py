"""The hub's own knowledge put into the tables: 120 apps and example bundles, as often as wanted."""

from typing import Any

import yaml
from sqlalchemy import select
from sqlmodel import Session, col

from catalog import json_schemas, listings, releases, vendors
from catalog.slots import read_data
from catalog.tables import App, Bundle, Listing, Release, Vendor
from kernel import clock

_OWN = {"key", "name", "layer", "slots", "sub_scenarios"}
_COMMUNITY = {
    "zh": "开源社区（由平台收录）",
    "en": "Open-source communities (described by the hub)",
}


def seed(session: Session, *, include_demo: bool = False) -> dict[str, int]:
    """Insert or renew the catalogue; unchanged rows are not written. Returns how many were."""
    written = {
        "apps": seed_apps(session),
        "bundles": seed_bundles(session, include_demo=include_demo),
    }
    if include_demo:
        written["demo_apps"] = seed_demo(session)
    return written


def seed_apps(session: Session) -> int:
    """Insert or renew the open-source apps; apps that a vendor publishes are left alone."""
    source = read_data("apps.yaml")
    vendor = _vendor(session, vendors.COMMUNITY_KEY, _COMMUNITY, "community")
    present = {app.key: app for app in session.execute(select(App)).scalars()}
    shelved = {listing.app_id: listing for listing in session.execute(select(Listing)).scalars()}
    written = 0
    for entry in source["apps"]:
        digest = json_schemas.digest_of([source["edition"], entry])
        app = present.get(entry["key"])
        if app is not None and (app.origin == "vendor" or app.digest == digest):
            continue
        if app is None:
            app = App(
                vendor_id=vendor.id,
                key=entry["key"],
                name={},
                layer="",
                slots=[],
                sub_scenarios=[],
                origin="catalogue",
            )
        app.name, app.layer = entry["name"], entry["layer"]
        app.slots, app.sub_scenarios = entry["slots"], entry["sub_scenarios"]
        facts = {name: value for name, value in entry.items() if name not in _OWN}
        app.facts = {**facts, "edition": source["edition"]}
        app.digest = digest
        listing = shelved.get(app.id) or Listing(app_id=app.id, tagline={}, facets={})
        listings.fill(listing, app, tagline=entry["description"])
        session.add(app)
        session.add(listing)
        written += 1
    return written


def seed_bundles(session: Session, *, include_demo: bool) -> int:
    """Insert or renew the bundles; the demo one only where demo apps are."""
    present = {bundle.key: bundle for bundle in session.execute(select(Bundle)).scalars()}
    written = 0
    entries = read_data("bundles.yaml")["bundles"]
    # the demo bundle is the one that can be installed at once, so it stands first
    entries = sorted(entries, key=lambda entry: not entry.get("is_demo"))
    for position, entry in enumerate(entries):
        if entry.get("is_demo") and not include_demo:
            continue
        digest = json_schemas.digest_of([position, entry])
        bundle = present.get(entry["key"])
        if bundle is not None and bundle.digest == digest:
            continue
        bundle = bundle or Bundle(key=entry["key"], name={}, story={}, items=[], plan={})
        bundle.name, bundle.story, bundle.items = entry["name"], entry["story"], entry["items"]
        kept = ("firm", "flows", "roles", "replaces", "hours_saved_per_month", "costs", "notes")
        bundle.plan = {name: entry[name] for name in kept if name in entry}
        bundle.flow_template = entry.get("flow_template")
        bundle.is_base = bool(entry.get("is_base"))
        bundle.is_demo = bool(entry.get("is_demo"))
        bundle.position, bundle.digest = position, digest
        session.add(bundle)
        written += 1
    return written


def seed_demo(session: Session) -> int:
    """Publish the demo vendor's three apps the way any vendor's are published."""
    source = read_data("demo_apps.yaml")
    given = source["vendor"]
    vendor = _vendor(session, given["key"], given["name"], "verified", about=given["about"])
    written = 0
    for manifest in source["releases"]:
        if _is_published(session, manifest):
            continue
        text = yaml.safe_dump(manifest, allow_unicode=True, sort_keys=False)
        release = releases.submit(session, vendor, text, None)
        app = session.get_one(App, release.app_id)
        app.is_demo = True
        session.add(app)
        releases.approve(session, release.id, None, None)
        releases.publish(session, release.id)
        written += 1
    return written


def _is_published(session: Session, manifest: dict[str, Any]) -> bool:
    statement = (
        select(Release)
        .join(App, col(App.id) == col(Release.app_id))
        .where(
            col(App.key) == manifest["id"],
            col(Release.version) == manifest["version"],
            col(Release.state) == "published",
        )
    )
    return session.execute(statement).first() is not None


def _vendor(
    session: Session,
    key: str,
    name: dict[str, str],
    state: str,
    about: dict[str, str] | None = None,
) -> Vendor:
    vendor = session.execute(select(Vendor).where(col(Vendor.key) == key)).scalar_one_or_none()
    if vendor is None:
        vendor = Vendor(key=key, name=name, about=about, state=state, decided_at=clock.now())
        session.add(vendor)
        session.flush()  # its apps point at it
    return vendor

"""How the catalogue's rows are shaped for whoever reads them, over JSON and on pages."""

from dataclasses import asdict
from typing import Any

from sqlmodel import Session

from catalog import apps, bundles
from catalog.event_types import EventType
from catalog.tables import App, Bundle

# In the order in which people ask for them.
FACTS = (
    *("licence", "deployment", "min_ram_mb", "hosted_price", "api", "webhooks", "sso"),
    *("data_export", "chinese_ui", "maintained"),
)


def facts(app: App) -> dict[str, dict[str, Any]]:
    """Return what is known of an App, each with its confidence."""
    return {
        name: {"value": app.facts.get(name), "confidence": apps.confidence_of(app, name)}
        for name in FACTS
        if name in app.facts
    }


def app_detail(session: Session, key: str) -> dict[str, Any]:
    """Return everything about an App that is on the shelf."""
    app, listing, vendor, release = apps.shelf(session, key)
    manifest = release.manifest if release else {}
    return {
        "key": app.key,
        "name": app.name,
        "tagline": listing.tagline,
        "description": listing.description,
        "layer": app.layer,
        "slots": app.slots,
        "sub_scenarios": app.sub_scenarios,
        "vendor": vendor.name,
        "vendor_state": vendor.state,
        "version": release.version if release else None,
        "plans": manifest.get("plans", []),
        "scopes": manifest.get("scopes", []),
        "data_table": manifest.get("data_table", []),
        "facts": facts(app),
        "bundles": [bundle.key for bundle in bundles.with_app(session, key)],
        "is_demo": app.is_demo,
    }


def bundle_detail(bundle: Bundle) -> dict[str, Any]:
    """Return a Bundle with its plan."""
    names = ("key", "name", "story", "items", "plan", "flow_template", "is_base", "is_demo")
    return {name: getattr(bundle, name) for name in names}


def event_type(found: EventType) -> dict[str, Any]:
    """Return an event type's name and place."""
    return {
        "name": found.name,
        "version": found.version,
        "title": found.title,
        "sub_scenario": found.sub_scenario,
        "natural_key": list(found.natural_key),
        "key_if_given": list(found.key_if_given),
        "origin": found.origin,
    }


def event_type_detail(found: EventType) -> dict[str, Any]:
    """Return an event type with its schema and sample."""
    return {
        **event_type(found),
        "term_source": found.term_source,
        "terms": [asdict(one) for one in found.terms],
        "schema": found.schema,
        "sample": found.sample,
    }

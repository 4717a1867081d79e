"""Apps: the products themselves, what is known of them and how surely."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import select
from sqlmodel import Session, col

from catalog.tables import App, Listing, Release, Vendor
from kernel.errors import N_, Conflict, NotFound

# One step below: nobody read this fact itself, whatever was read about the app around it.
_BELOW = {"confirmed": "likely", "likely": "memory", "memory": "memory"}
CONFIDENCES = ("confirmed", "likely", "memory")


def by_key(session: Session, key: str) -> App:
    """Return an App by its key; an unknown key is NotFound."""
    statement = select(App).where(col(App.key) == key)
    app: App | None = session.execute(statement).scalar_one_or_none()
    if app is None:
        raise NotFound(N_("There is no app “%(key)s”"), key=key)
    return app


def by_keys(session: Session, keys: Iterable[str]) -> dict[str, App]:
    """Return the Apps that stand on the shelf among these keys, by key.

    An App whose first Release is still in review is nobody's business but its Vendor's.
    """
    wanted = list(keys)
    if not wanted:
        return {}
    rows = session.execute(
        select(App)
        .join(Listing, col(Listing.app_id) == col(App.id))
        .where(col(App.key).in_(wanted), col(Listing.state) == "published")
    ).scalars()
    return {app.key: app for app in rows}


def claim(session: Session, vendor: Vendor, document: dict[str, Any]) -> App:
    """Return the Vendor's App for a manifest, made at its first submission; keys are unique."""
    key = document["id"]
    statement = select(App).where(col(App.key) == key)
    app: App | None = session.execute(statement).scalar_one_or_none()
    if app is not None:
        if app.vendor_id != vendor.id:
            raise Conflict(N_("The id “%(key)s” belongs to another vendor"), key=key)
        return app
    app = App(
        vendor_id=vendor.id,
        key=key,
        name=document["name"],
        layer=document["layer"],
        slots=document["slots"],
        sub_scenarios=document["sub_scenarios"],
    )
    session.add(app)
    session.flush()  # its Release points at it
    return app


def apply_manifest(app: App, document: dict[str, Any]) -> None:
    """Take over what a published Release says about its App."""
    app.name, app.layer = document["name"], document["layer"]
    app.slots, app.sub_scenarios = document["slots"], document["sub_scenarios"]
    app.facts = {
        "description": document["description"],
        "licence": document["licence"],
        "homepage": document.get("homepage"),
        "repository": document.get("repository"),
        "deployment": document["deployment"],
        "data_export": document["exports"],
        "for_sizes": document.get("for_sizes", ["micro", "small", "medium"]),
        "min_ram_mb": document.get("min_ram_mb"),
        "confidence": "vendor",
    }


def confidence_of(app: App, field: str) -> str:
    """Say how sure a fact is: confirmed, likely, memory, or vendor for what its maker declared.

    A field that was read for the present edition is confirmed. Any other stands one step below the
    app's overall confidence, and a fact whose own note says “from memory” is never confirmed.
    """
    overall = str(app.facts.get("confidence", "memory"))
    if overall == "vendor":
        return "vendor"
    value = app.facts.get(field)
    note = (value.get("note") or {}) if isinstance(value, dict) else {}
    recalled = "from memory" in str(note.get("en", ""))
    if field in app.facts.get("checked", ()):
        return "likely" if recalled else "confirmed"
    return "memory" if recalled else _BELOW.get(overall, "memory")


def of_vendor(session: Session, vendor_id: str) -> list[App]:
    """Return a Vendor's Apps by key."""
    statement = select(App).where(col(App.vendor_id) == vendor_id).order_by(col(App.key))
    return list(session.execute(statement).scalars())


def shelf(session: Session, key: str) -> tuple[App, Listing, Vendor, Release | None]:
    """Return an App with its shelf page, its Vendor and its published Release, if it has one."""
    app = by_key(session, key)
    listing = session.execute(
        select(Listing).where(col(Listing.app_id) == app.id)
    ).scalar_one_or_none()
    vendor = session.get(Vendor, app.vendor_id)
    if listing is None or listing.state != "published" or vendor is None:
        raise NotFound(N_("There is no app “%(key)s”"), key=key)
    release = session.get(Release, listing.release_id) if listing.release_id else None
    return app, listing, vendor, release


def published_release(session: Session, key: str) -> Release | None:
    """Return the Release that is on the shelf for this App, or None."""
    app = by_key(session, key)
    statement = (
        select(Release)
        .join(Listing, col(Listing.release_id) == col(Release.id))
        .where(col(Listing.app_id) == app.id, col(Listing.state) == "published")
    )
    return session.execute(statement).scalar_one_or_none()


def of_release(session: Session, release: Release) -> App:
    """Return the App that a Release is a version of."""
    return session.get_one(App, release.app_id)

"""Who speaks an event type: apps that declare it or are planned to send it, and connectors."""

from sqlalchemy import select
from sqlmodel import Session, col

from catalog import bundles, event_types
from catalog.event_types import Speaker
from catalog.tables import App, Listing, Release


def speakers(session: Session, name: str) -> list[Speaker]:
    """Name the connectors and apps that tell events of a type, each once, the surest first."""
    found = [one for ask in event_types.SPEAKERS for one in ask(name)]
    found += _declared(session, name)
    known = {one.href for one in found}
    for one in _planned(session, name):
        if one.href not in known:
            known.add(one.href)
            found.append(one)
    return found


def _declared(session: Session, name: str) -> list[Speaker]:
    """Return the Apps whose published Release says that it sends the type."""
    statement = (
        select(App, Release)
        .join(Listing, col(Listing.app_id) == col(App.id))
        .join(Release, col(Listing.release_id) == col(Release.id))
        .where(col(Listing.state) == "published")
        .order_by(col(App.key))
    )
    return [
        Speaker("app", app.name, f"/apps/{app.key}")
        for app, release in session.execute(statement)
        if name in release.manifest.get("event_types", {}).get("sends", ())
    ]


def _planned(session: Session, name: str) -> list[Speaker]:
    """Return the Apps whose event starts a flow of a Bundle; none of these flows has been run."""
    ways = {
        flow["app"]: flow.get("via", "")
        for bundle in bundles.all_bundles(session)
        for flow in bundle.plan.get("flows", [])
        if flow.get("event") == name and flow.get("app")
    }
    statement = select(App).where(col(App.key).in_(list(ways))).order_by(col(App.key))
    return [
        Speaker("app", app.name, f"/apps/{app.key}", ways[app.key], "planned")
        for app in session.execute(statement).scalars()
    ]


def joining(session: Session, name: str) -> list[tuple[str, dict[str, str]]]:
    """Return key and name of the Bundles in which the type starts a flow."""
    return [
        (bundle.key, bundle.name)
        for bundle in bundles.all_bundles(session)
        if any(flow.get("event") == name for flow in bundle.plan.get("flows", []))
    ]

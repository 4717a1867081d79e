"""Offers: what the hub can install by itself, worked out from catalogue, connectors and recipes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session, col, select

from catalog.tables import App, Bundle, Listing, Release
from connectors.engine import flow_templates, loader
from connectors.engine.connector import Connector
from kernel.errors import N_, Conflict, NotFound
from marketplace import demo_vendors

Words = Mapping[str, str]


@dataclass(frozen=True)
class Part:
    """One app of an offer, with the connector that opens its account."""

    app_key: str
    title: Words
    slot: str | None
    release_id: str | None
    connector: Connector
    settings: Mapping[str, Any]
    triggers: tuple[str, ...]  # whose news the hub subscribes to
    use: Words | None
    manifest: Mapping[str, Any]  # the published Release's, for what people agree to


@dataclass(frozen=True)
class Recipe:
    """One flow of an offer."""

    key: str
    title: Words
    document: Mapping[str, Any]
    sample: Any


@dataclass(frozen=True)
class Offer:
    """What one click installs."""

    bundle_key: str | None
    app_key: str | None
    title: Words
    parts: tuple[Part, ...]
    recipes: tuple[Recipe, ...]

    @property
    def claim_key(self) -> str:
        """The name under which only one rollout at a time may be open."""
        return claim_key(self.bundle_key, self.app_key)


def claim_key(bundle_key: str | None, app_key: str | None) -> str:
    """Return the name under which a bundle or an app is rolled out."""
    return f"bundle:{bundle_key}" if bundle_key else f"app:{app_key}"


def of_bundle(session: Session, key: str) -> Offer:
    """Return a bundle as an offer; raises NotFound, or Conflict with why it is not installable."""
    bundle = session.execute(select(Bundle).where(col(Bundle.key) == key)).scalar_one_or_none()
    if bundle is None:
        raise NotFound
    recipes = tuple(_recipe(name) for name in _template_keys(bundle))
    parts = [
        _part(session, item["app"], _triggers_of(recipes, item["app"]), item.get("use"))
        for item in bundle.items
    ]
    return Offer(key, None, bundle.name, tuple(parts), recipes)


def of_app(session: Session, app_key: str) -> Offer:
    """Return a single app as an offer: its account and all its news, no flow."""
    part = _part(session, app_key, None, None)
    return Offer(None, app_key, part.title, (part,), ())


def bundle_is_installable(session: Session, key: str) -> bool:
    """Tell whether the hub can install every app of a bundle by itself."""
    try:
        of_bundle(session, key)
    except (Conflict, NotFound):
        return False
    return True


def app_is_installable(session: Session, app_key: str) -> bool:
    """Tell whether the hub can open this app's account by itself."""
    try:
        of_app(session, app_key)
    except (Conflict, NotFound):
        return False
    return True


def _template_keys(bundle: Bundle) -> list[str]:
    return [bundle.flow_template] if bundle.flow_template else []


def _recipe(key: str) -> Recipe:
    template = flow_templates.all().get(key)
    if template is None:
        raise Conflict(
            N_("It cannot be installed now"),
            N_("Its flow “%(flow)s” is missing from this hub."),
            flow=key,
            code="not_installable",
        )
    return Recipe(key, template.title, template.document, template.sample)


def _triggers_of(recipes: tuple[Recipe, ...], connector_key: str) -> tuple[str, ...]:
    wanted = (recipe.document["trigger"] for recipe in recipes)
    return tuple(
        dict.fromkeys(str(t["trigger"]) for t in wanted if t.get("connector") == connector_key)
    )


def _part(
    session: Session, app_key: str, triggers: tuple[str, ...] | None, use: Words | None
) -> Part:
    row = session.execute(
        select(App, Listing, Release)
        .join(Listing, col(Listing.app_id) == col(App.id))
        .outerjoin(Release, col(Release.id) == col(Listing.release_id))
        .where(col(App.key) == app_key)
    ).first()
    if row is None:  # nobody registered it, or it has never passed review
        raise NotFound
    app, listing, release = row
    manifest = release.manifest if release is not None else {}
    if listing.state != "published":
        raise _not_installable(app, N_("“%(app)s” is not on the shelf at the moment."))
    try:
        connector = loader.find(manifest.get("connector") or app.key)
    except NotFound:
        connector = None
    if connector is None or "install" not in connector.lifecycle:
        raise _not_installable(
            app, N_("“%(app)s” does not open accounts by itself: run it yourself and add a link.")
        )
    settings = demo_vendors.settings_of(connector.key)
    if set(connector.settings.get("required", ())) - set(settings):
        raise _not_installable(app, N_("“%(app)s” needs settings that nobody has given yet."))
    if triggers is None:
        triggers = tuple(connector.triggers) if "subscribe" in connector.lifecycle else ()
    slot = app.slots[0] if app.slots else None
    return Part(
        app_key=app.key,
        title=app.name,
        slot=slot,
        release_id=release.id if release is not None else None,
        connector=connector,
        settings=settings,
        triggers=triggers,
        use=use,
        manifest=manifest,
    )


def _not_installable(app: App, detail: str) -> Conflict:
    # the app's Chinese name is good in both languages: a problem's values are not translated
    return Conflict(
        N_("It cannot be installed now"), detail, code="not_installable", app=app.name.get("zh", "")
    )

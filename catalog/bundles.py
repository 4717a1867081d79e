"""Bundles: Apps for several Slots and the Flows that join them, with honest figures."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import select
from sqlmodel import Session, col

from catalog import apps, search
from catalog.slots import all_slots, read_data
from catalog.tables import App, Bundle
from kernel.errors import N_, NotFound

# Says whether the hub can install an App by its key; the shop adds its answer here.
INSTALLABLE: list[Callable[[Session, str], bool]] = []


@dataclass(frozen=True)
class Member:
    """One App of a Bundle, and whether the hub itself can install it."""

    app: App
    slots: list[str]
    use: dict[str, str]
    alternatives: list[App]
    is_installable: bool


def all_bundles(session: Session) -> list[Bundle]:
    """Return the Bundles in the order of the shelf."""
    statement = select(Bundle).order_by(col(Bundle.position), col(Bundle.key))
    return list(session.execute(statement).scalars())


def by_key(session: Session, key: str) -> Bundle:
    """Return a Bundle by its key; an unknown key is NotFound."""
    statement = select(Bundle).where(col(Bundle.key) == key)
    bundle: Bundle | None = session.execute(statement).scalar_one_or_none()
    if bundle is None:
        raise NotFound(N_("There is no bundle “%(key)s”"), key=key)
    return bundle


def members(session: Session, bundle: Bundle) -> list[Member]:
    """Return the Bundle's Apps that are in the catalogue, in its own order."""
    keys = [key for item in bundle.items for key in (item["app"], *item.get("or", ()))]
    found = apps.by_keys(session, keys)
    return [
        Member(
            app=found[item["app"]],
            slots=item["slots"],
            use=item["use"],
            alternatives=[found[key] for key in item.get("or", ()) if key in found],
            is_installable=is_installable(session, item["app"]),
        )
        for item in bundle.items
        if item["app"] in found
    ]


def is_installable(session: Session, app_key: str) -> bool:
    """Tell whether the hub can install this App."""
    return any(answer(session, app_key) for answer in INSTALLABLE)


def can_install(bundle: Bundle, present: list[Member]) -> bool:
    """Tell whether every member can be installed by the hub, so that “install all” is true."""
    return len(present) == len(bundle.items) and all(member.is_installable for member in present)


def by_slot(present: list[Member]) -> dict[str, list[Member]]:
    """Group members under the Slot they mainly serve, Slots in the order of a firm's work."""
    grouped: dict[str, list[Member]] = {}
    for slot in all_slots():
        inside = [member for member in present if member.slots[0] == slot.id]
        if inside:
            grouped[slot.id] = inside
    return grouped


def with_app(session: Session, app_key: str) -> list[Bundle]:
    """Return the Bundles that hold an App."""
    return [
        bundle
        for bundle in all_bundles(session)
        if any(app_key in (item["app"], *item.get("or", ())) for item in bundle.items)
    ]


def with_slot(session: Session, slot_id: str) -> list[Bundle]:
    """Return the Bundles with a member for a Slot."""
    return [
        bundle
        for bundle in all_bundles(session)
        if any(slot_id in item["slots"] for item in bundle.items)
    ]


@cache
def assumptions() -> dict[str, Any]:
    """Return the rates behind every estimate, all of them assumptions."""
    found: dict[str, Any] = read_data("bundles.yaml")["assumptions"]
    return found


def estimate(bundle: Bundle) -> dict[str, Any] | None:
    """Return the Bundle's yearly planning figures in CNY as (low, high), or None without figures.

    `saved` is hours times the assumed wage, `running` is servers and care, `setup` happens once.
    """
    hours, costs = bundle.plan.get("hours_saved_per_month"), bundle.plan.get("costs") or {}
    if not hours or not costs.get("setup_days"):
        return None
    rates = assumptions()
    wage, day = rates["hour_cny"], rates["setup_day_cny"]
    servers = [rates["server_cny_per_month"][size] for size in costs.get("server_gb", ())]
    care = rates["care_hours_per_month"]
    low, high = (0, 1)
    saved = (hours["low"] * wage[low] * 12, hours["high"] * wage[high] * 12)
    running = (
        (sum(price[low] for price in servers) + care[low] * wage[low]) * 12,
        (sum(price[high] for price in servers) + care[high] * wage[high]) * 12,
    )
    setup = (costs["setup_days"]["low"] * day[low], costs["setup_days"]["high"] * day[high])
    return {"saved": saved, "running": running, "setup": setup, "is_assumption": True}


def partners(offered: list[Bundle], app_key: str) -> list[str]:
    """Return the keys of Apps that an App hands on to, or gets from, in these Bundles' flows."""
    found: dict[str, None] = {}
    for bundle in offered:
        for flow in bundle.plan.get("flows", []):
            keys = [flow.get("app"), *(step.get("app") for step in flow["steps"])]
            if app_key in keys:
                found.update(dict.fromkeys(key for key in keys if key and key != app_key))
    return list(found)


def matching(session: Session, query: str) -> list[Bundle]:
    """Return the Bundles whose name, story or firm holds every word of a query."""
    asked = search.query_words(query)
    if not asked:
        return []
    found = []
    for bundle in all_bundles(session):
        firm = bundle.plan.get("firm") or {}
        text = search.index_text(*bundle.name.values(), *bundle.story.values(), *firm.values())
        if all(f" {word}" in text for word in asked):
            found.append(bundle)
    return found

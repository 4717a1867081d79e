"""The shelves: slots, apps, bundles, and apps side by side."""

from typing import Any
from urllib.parse import urlencode

from flask import request

from catalog import apps, bundles, event_types, pictures, search, shapes, slots
from catalog.pages.drawing import blueprint, draw
from catalog.tables import Bundle
from identity.guard import public
from kernel import web
from kernel.database import EVERY, reading

MAX_COMPARED = 4


def _filters() -> search.Filters:
    return {name: request.args.getlist(name)[:20] for name in search.FACETS}


def _facet_link(facet: str, value: str) -> str:
    """Return this page's address with one filter value switched on or off, from the first page."""
    pairs = [
        (name, kept)
        for name, values in request.args.lists()
        for kept in values
        if name not in {"cursor", "lang"} and (name, kept) != (facet, value)
    ]
    if value not in request.args.getlist(facet):
        pairs.append((facet, value))
    elif facet == "slot":
        pairs = [p for p in pairs if p[0] != "sub_scenario" or not p[1].startswith(f"{value}.")]
    return f"/apps?{urlencode(pairs)}" if pairs else "/apps"


@blueprint.get("/slots")
@public
def slot_list() -> Any:
    """Show the six slots and how many apps each holds."""
    with reading(EVERY) as session:
        found = search.search(session, limit=1)
    return draw("slots.html", slots=slots.all_slots(), layers=slots.all_layers(), found=found)


@blueprint.get("/slots/<slot_id>")
@public
def slot_page(slot_id: str) -> Any:
    """Show one slot: what it is, its troubles, its tasks, apps and bundles."""
    slot = slots.find_slot(slot_id)
    with reading(EVERY) as session:
        found = search.search(session, filters={"slot": [slot_id]}, limit=12)
        offered = bundles.with_slot(session, slot_id)
    return draw("slot.html", slot=slot, found=found, bundles=offered)


@blueprint.get("/apps")
@public
def app_list() -> Any:
    """Browse and search the apps; everything chosen is in the address."""
    query = request.args.get("q", "")[: search.MAX_QUERY]
    order = request.args.get("order", "relevance")
    with reading(EVERY) as session:
        found = search.search(
            session, query, _filters(), cursor=request.args.get("cursor"), order=order
        )
    return draw(
        "apps.html",
        found=found,
        query=query,
        chosen=_filters(),
        order=order,
        facet_link=_facet_link,
    )


@blueprint.get("/search")
@public
def search_all() -> Any:
    """Search apps and bundles from the field at the top of every page."""
    query = request.args.get("q", "")[: search.MAX_QUERY]
    with reading(EVERY) as session:
        found = search.search(session, query, limit=12)
        sets = bundles.matching(session, found.instead or query)
    return draw("search.html", found=found, bundles=sets, query=query)


@blueprint.get("/apps/<key>")
@public
def app_page(key: str) -> Any:
    """Show one app: what it does, what is known and how surely, what it connects with."""
    with reading(EVERY) as session:
        app, listing, vendor, release = apps.shelf(session, key)
        offered = bundles.with_app(session, key)
        partners = apps.by_keys(session, bundles.partners(offered, key))
        is_installable = bundles.is_installable(session, key)
    return draw(
        "app.html",
        app=app,
        listing=listing,
        vendor=vendor,
        release=release,
        facts=shapes.facts(app),
        bundles=offered,
        partners=partners,
        is_installable=is_installable,
    )


@blueprint.get("/compare")
@public
def compare() -> Any:
    """Show up to four apps side by side; the address names them."""
    keys = list(dict.fromkeys(request.args.getlist("a")))[:MAX_COMPARED]
    with reading(EVERY) as session:
        found = apps.by_keys(session, keys)
        others = search.search(session, limit=500, order="name").hits
    chosen = [found[key] for key in keys if key in found]
    return draw(
        "compare.html",
        apps=chosen,
        facts={app.key: shapes.facts(app) for app in chosen},
        fact_names=shapes.FACTS,
        others=others,
        only_differences="differences" in request.args,
        maximum=MAX_COMPARED,
    )


@blueprint.get("/bundles")
@public
def bundle_list() -> Any:
    """Show the bundles."""
    with reading(EVERY) as session:
        found = bundles.all_bundles(session)
    return draw("bundles.html", bundles=found)


@blueprint.get("/bundles/<key>")
@public
def bundle_page(key: str) -> Any:
    """Show one bundle: its story, members, flows and honest figures."""
    with reading(EVERY) as session:
        bundle = bundles.by_key(session, key)
        present = bundles.members(session, bundle)
    by_slot = bundles.by_slot(present)
    return draw(
        "bundle.html",
        bundle=bundle,
        by_slot=by_slot,
        names={member.app.key: member.app.name for member in present},
        slot_of={member.app.key: member.slots[0] for member in present},
        event_titles=_event_titles(bundle),
        picture=_picture(bundle, by_slot),
        can_install=bundles.can_install(bundle, present),
        estimate=bundles.estimate(bundle),
        assumptions=bundles.assumptions(),
    )


def _event_titles(bundle: Bundle) -> dict[str, Any]:
    """Name the events that start a bundle's flows; one outside the vocabulary keeps its code."""
    titles = {}
    for name in {flow["event"] for flow in bundle.plan.get("flows", []) if flow.get("event")}:
        found = event_types.lookup(None, None, name)
        titles[name] = found.title if found else {"zh": name, "en": name}
    return titles


def _picture(bundle: Bundle, by_slot: dict[str, list[bundles.Member]]) -> pictures.Picture:
    columns = {
        slot_id: [(member.app.key, web.localized(member.app.name)) for member in inside]
        for slot_id, inside in by_slot.items()
    }
    return pictures.bundle_map(columns, bundle.plan.get("flows", []))

"""Sources as pages: a list, a short wizard, and everything about one."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flask import request

from identity import audit
from identity.guard import principal, require
from kernel.database import reading, transaction
from kernel.errors import N_, Invalid, Problem
from kernel.web import localized, page_of
from webhooks import examples, fillings, intake, offers, sources
from webhooks.openings import RECIPE
from webhooks.pages.drawing import blueprint, draw, go, typed
from webhooks.pages.refused import of_source
from webhooks.schemas import SHORTEST_SECRET
from webhooks.tables import SOURCE, Source

# More cards of a source's page, drawn by packages above: called with the source and what went wrong
# with a form of theirs. Filled by the composition root.
CARDS: list[Callable[[Source, Problem | None], str]] = []


@blueprint.get("/sources")
@require("sources:read")
def list_sources() -> Any:
    """Show where events come in."""
    organization_id = principal().organization_id
    with reading(organization_id) as session:
        cursor = request.args.get("cursor")
        page = page_of(
            session, sources.listing(organization_id), SOURCE.c.id, cursor=cursor, limit=30
        )
        ids = [source.id for source in page.items]
        last = sources.last_received(session, organization_id, ids)
    return draw("sources.html", page=page, last=last, scheme_of=examples.text_of)


@blueprint.get("/sources/new")
@require("sources:write")
def new_source() -> Any:
    """Let people choose how the sender proves who it is, then fill the rest in."""
    return _draw_form()


def _draw_form(problem: Problem | None = None) -> Any:
    scheme, key = request.values.get("scheme", ""), request.values.get("offer", "")
    known = {offer.key: offer for offer in offers.listing()}
    if key in known:
        return draw("source_offer.html", problem=problem, offer=known[key])
    if scheme not in examples.SCHEMES or scheme == RECIPE:
        return draw("source_choose.html", schemes=_choices(), offers=list(known.values()))
    return draw("source_new.html", problem=problem, scheme=scheme, schemes=examples.SCHEMES)


def _choices() -> dict[str, examples.SchemeText]:
    return {key: one for key, one in examples.SCHEMES.items() if key != RECIPE}


@blueprint.post("/sources")
@require("sources:write")
def create_source() -> Any:
    """Open the source and show its address and secret."""
    who = principal()
    try:
        wish = _wish()
        with transaction(who.organization_id) as session:
            source = sources.create(
                session,
                who.organization_id,
                unknown_types=typed("unknown_types") or "accept",
                **wish,
            )
            audit.record(session, who, "source.created", source.id)
    except Problem as problem:
        return _draw_form(problem)
    return draw_source(source.id, is_open=True, is_made=True)


def _wish() -> dict[str, Any]:
    """Return what was chosen: a known sender with what was filled in, or a way of proof."""
    key = typed("offer")
    if key:
        offer = offers.find(key)
        name = typed("name") or localized(offer.title)
        secret = None if offer.scheme == RECIPE else _secret()
        filled = _filled(offer.asks)
        return {"name": name, "filled": filled, "secret": secret, **offers.values_of(key)}
    return {
        "name": typed("name") or typed("scheme"),
        "scheme": typed("scheme"),
        "secret": _secret(),
        "scheme_options": _options(),
        "rules": _rules(),
    }


def _filled(asks: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    found = {ask["name"]: typed(f"filled_{ask['name']}", 16_384) for ask in asks}
    return {name: value for name, value in found.items() if value}


def _secret() -> str | None:
    secret = typed("secret", 500)
    if secret and len(secret) < SHORTEST_SECRET:
        message = N_("Use at least 8 characters, or leave it empty and one is made")
        raise Invalid(errors=[{"pointer": "/secret", "message": message}])
    return secret or None


def _options() -> dict[str, Any]:
    if typed("scheme") == "github":
        return {}
    names = ("header", "prefix", "algorithm", "encoding", "style", "timestamp_header", "id_header")
    # the blank at a prefix's end belongs to it: "Bearer " stands before the token
    options = {name: typed(name, keep_end=name == "prefix") for name in names}
    return {name: value for name, value in options.items() if value}


def _rules() -> dict[str, Any]:
    chosen = typed("type_from") or "envelope"
    rules = {"from": chosen}
    if chosen != "envelope":
        rules["value"] = typed("type_value")
    for name in ("prefix", "id_pointer"):
        text = typed(f"type_{name}")
        if text:
            rules[name] = text
    return rules


@blueprint.get("/sources/<source_id>")
@require("sources:read")
def show_source(source_id: str) -> Any:
    """Show a source and what came in lately."""
    return draw_source(source_id)


@blueprint.post("/sources/<source_id>/reveal")
@require("sources:write")
def reveal_source(source_id: str) -> Any:
    """Show the address and the secret, and note who looked."""
    _act(source_id, sources.get, "source.secret_shown")
    return draw_source(source_id, is_open=True)


def draw_source(
    source_id: str,
    problem: Problem | None = None,
    *,
    is_open: bool = False,
    is_made: bool = False,
) -> Any:
    """Draw everything about one source."""
    who = principal()
    with reading(who.organization_id) as session:
        source = sources.get(session, who.organization_id, source_id)
        recent = sources.recent_events(session, who.organization_id, source_id)
        refused = of_source(session, who.organization_id, source_id)
    return draw(
        "source.html",
        problem=problem,
        source=source,
        recent=recent,
        is_made=is_made,
        is_weak=sources.is_weak(source),
        is_polled=source.scheme == sources.POLL,
        scheme=examples.text_of(source.scheme),
        access=_access(source) if is_open else None,
        asks=_asks(source),
        cards=[card(source, problem) for card in CARDS],
        **refused,
    )


def _access(source: Source) -> dict[str, Any]:
    url, secret = sources.url_of(source), sources.secret_of(source)
    if source.scheme == RECIPE:
        filled = fillings.get(source)
        shown = [{**ask, "value": filled.get(ask["name"], "")} for ask in _asks(source)]
        return {"url": url, "secret": None, "example": None, "filled": shown}
    return {"url": url, "secret": secret, "example": examples.curl(source, url, secret)}


def _asks(source: Source) -> list[dict[str, Any]]:
    return fillings.asked(source.scheme_options) if source.scheme == RECIPE else []


@blueprint.post("/sources/<source_id>/pause")
@require("sources:write")
def pause_source(source_id: str) -> Any:
    """Take nothing in for a while."""
    _act(source_id, lambda s, o, i: sources.set_state(s, o, i, "paused"), "source.paused")
    return go(f"/sources/{source_id}", "source_paused")


@blueprint.post("/sources/<source_id>/resume")
@require("sources:write")
def resume_source(source_id: str) -> Any:
    """Take events in again."""
    _act(source_id, lambda s, o, i: sources.set_state(s, o, i, "active"), "source.resumed")
    return go(f"/sources/{source_id}", "resumed")


@blueprint.post("/sources/<source_id>/rotate-secret")
@require("sources:write")
def rotate_source_secret(source_id: str) -> Any:
    """Give a new secret and show it."""
    try:
        secret = _secret()
        _act(
            source_id,
            lambda s, o, i: sources.rotate_secret(s, o, i, secret),
            "source.secret_rotated",
        )
    except Problem as problem:
        return draw_source(source_id, problem)
    return draw_source(source_id, is_open=True)


@blueprint.post("/sources/<source_id>/renew-values")
@require("sources:write")
def renew_source_values(source_id: str) -> Any:
    """Take new values for what a recipe asks; what is left empty stays."""
    who = principal()
    try:
        with transaction(who.organization_id) as session:
            source = sources.get(session, who.organization_id, source_id)
            fillings.renew(session, who.organization_id, source_id, _filled(_asks(source)))
            audit.record(session, who, "source.secret_rotated", source_id)
    except Problem as problem:
        return draw_source(source_id, problem)
    intake.forget()
    return go(f"/sources/{source_id}", "values_renewed")


@blueprint.post("/sources/<source_id>/rotate-token")
@require("sources:write")
def rotate_source_token(source_id: str) -> Any:
    """Give a new address and show it."""
    _act(source_id, sources.rotate_token, "source.token_rotated")
    return draw_source(source_id, is_open=True)


@blueprint.post("/sources/<source_id>/unknown-types")
@require("sources:write")
def set_unknown_types(source_id: str) -> Any:
    """Take unknown event types or reject them."""
    wish = typed("unknown_types")
    try:
        _act(
            source_id, lambda s, o, i: sources.change(s, o, i, unknown_types=wish), "source.changed"
        )
    except Problem as problem:
        return draw_source(source_id, problem)
    return go(f"/sources/{source_id}")


def _act(source_id: str, verb: Callable[..., Any], action: str) -> None:
    who = principal()
    with transaction(who.organization_id) as session:
        verb(session, who.organization_id, source_id)
        audit.record(session, who, action, source_id)
    intake.forget()

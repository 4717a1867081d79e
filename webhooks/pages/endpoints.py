"""Endpoints as pages: where events go out, and how that goes."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from flask import request

from catalog import event_types
from identity import audit
from identity.guard import principal, require
from kernel import clock
from kernel.database import reading, transaction
from kernel.errors import N_, Invalid, Problem
from kernel.http import Response as HttpResponse
from kernel.web import page_of
from webhooks import (
    attempts,
    bulk_replays,
    certificates,
    deletions,
    deliveries,
    endpoints,
    lanes,
    outcomes,
    own_headers,
    portals,
    replay,
    trials,
)
from webhooks.pages.drawing import (
    NOT_CONFIRMED,
    REASONS,
    blueprint,
    draw,
    go,
    typed,
    wanted_types,
)
from webhooks.tables import BULK_REPLAY, DELIVERY, ENDPOINT

STATES = ("due", "waiting", "delivered", "parked", "cancelled")
SINCE = {
    "1": N_("the last hour"),
    "24": N_("the last day"),
    "72": N_("the last three days"),
    "336": N_("the last two weeks"),
}


@blueprint.get("/endpoints")
@require("endpoints:read")
def list_endpoints() -> Any:
    """Show where events go out."""
    organization_id = principal().organization_id
    wanted, cursor = endpoints.listing(organization_id), request.args.get("cursor")
    with reading(organization_id) as session:
        page = page_of(session, wanted, ENDPOINT.c.id, cursor=cursor, limit=30)
        counts = deliveries.counts(session, organization_id)
        names = portals.names(session, organization_id)
    return draw("endpoints.html", page=page, counts=counts, subscribers=names)


@blueprint.get("/endpoints/new")
@require("endpoints:write")
def new_endpoint() -> Any:
    """Ask for an address and the events it wants."""
    return _draw_form()


def _draw_form(problem: Problem | None = None) -> Any:
    organization_id = principal().organization_id
    with reading(organization_id) as session:
        known = event_types.all_types(session, organization_id)
    return draw("endpoint_new.html", problem=problem, known=known)


def _chosen_limit() -> int:
    """Return what was typed, -1 for what is no number, 0 for nothing."""
    text = typed("max_in_flight", 10)
    return int(text) if text.isascii() and text.isdigit() else -1 if text else 0


@blueprint.post("/endpoints")
@require("endpoints:write")
def create_endpoint() -> Any:
    """Register the address and show its signing secret."""
    who, url = principal(), typed("url", 2000)
    try:
        endpoints.check_url(url)
        with transaction(who.organization_id) as session:
            endpoint = endpoints.register(
                session,
                who.organization_id,
                url=url,
                event_types=wanted_types(typed("event_types", 5000)),
                description=typed("description", 500),
                signature="ed25519" if typed("signature") == "ed25519" else "hmac",
                condition=typed("condition", 2000),
                large_payloads=typed("large_payloads") or "reference",
                max_in_flight=_chosen_limit(),
                ordering=typed("ordering") or "none",
            )
            audit.record(session, who, "endpoint.created", endpoint.id)
    except Problem as problem:
        return _draw_form(problem)
    return draw_endpoint(endpoint.id, is_open=True, is_made=True)


@blueprint.get("/endpoints/<endpoint_id>")
@require("endpoints:read")
def show_endpoint(endpoint_id: str) -> Any:
    """Show an endpoint and its deliveries."""
    return draw_endpoint(endpoint_id)


def draw_endpoint(
    endpoint_id: str,
    problem: Problem | None = None,
    *,
    is_open: bool = False,
    is_made: bool = False,
    tried: Any = None,
) -> Any:
    """Draw an endpoint's page, with its secret when `is_open`."""
    who = principal()
    state = request.args.get("state", "")
    wanted = deliveries.listing(who.organization_id, endpoint_id, state)
    with reading(who.organization_id) as session:
        endpoint = endpoints.get(session, who.organization_id, endpoint_id)
        names = portals.names(session, who.organization_id) if endpoint.subscriber_id else {}
        cursor = request.args.get("cursor")
        page = page_of(session, wanted, DELIVERY.c.id, cursor=cursor, limit=20)
        counts = deliveries.counts(session, who.organization_id).get(endpoint_id, {})
        missed = deliveries.count_missed(session, who.organization_id, endpoint_id)
        earlier = bulk_replays.listing(who.organization_id, endpoint_id)
        earlier = earlier.order_by(BULK_REPLAY.c.id.desc()).limit(3)
        replays = session.execute(earlier).scalars().all()
        stopping = lanes.stopped(session, (who.organization_id, endpoint_id), 5)
    return draw(
        "endpoint.html",
        problem=problem,
        endpoint=endpoint,
        page=page,
        counts=counts,
        missed=missed,
        stopping=stopping,
        replays=replays,
        is_counted=missed < deliveries.MOST_COUNTED,
        tried=tried,
        subscriber=names.get(endpoint.subscriber_id or ""),
        is_made=is_made,
        secret=endpoints.secret_of(endpoint) if is_open else None,
        headers=own_headers.shown(endpoint.headers),
        mask=own_headers.MASK,
        certificate=certificates.shown(endpoint),
        signing_until=endpoints.signing_until(endpoint),
        reasons=REASONS,
        since=SINCE,
        states=STATES,
    )


@blueprint.get("/endpoints/<endpoint_id>/delete")
@require("endpoints:write")
def ask_to_delete_endpoint(endpoint_id: str) -> Any:
    """Say what a deletion would do to what is under way."""
    return _draw_deletion(endpoint_id)


def _draw_deletion(endpoint_id: str, problem: Problem | None = None) -> Any:
    organization_id = principal().organization_id
    with reading(organization_id) as session:
        endpoint = endpoints.get(session, organization_id, endpoint_id)
        moving = deletions.under_way(session, organization_id, endpoint_id)
    return draw("endpoint_delete.html", problem=problem, endpoint=endpoint, moving=moving)


@blueprint.post("/endpoints/<endpoint_id>/delete")
@require("endpoints:write")
def delete_endpoint(endpoint_id: str) -> Any:
    """Delete it; what waits for it is not sent any more."""
    if typed("confirmed") != "yes":
        return _draw_deletion(endpoint_id, Invalid(errors=[NOT_CONFIRMED]))
    act(endpoint_id, deletions.delete, "endpoint.deleted")
    return go("/endpoints", "endpoint_deleted")


@blueprint.post("/endpoints/<endpoint_id>/change")
@require("endpoints:write")
def change_endpoint(endpoint_id: str) -> Any:
    """Change address, events or description."""
    url = typed("url", 2000)
    try:
        endpoints.check_url(url)
        act(
            endpoint_id,
            lambda s, o, i: endpoints.change(
                s,
                o,
                i,
                url=url,
                event_types=wanted_types(typed("event_types", 5000)),
                description=typed("description", 500),
                condition=typed("condition", 2000),
                large_payloads=typed("large_payloads") or None,
                max_in_flight=_chosen_limit(),
                ordering=typed("ordering") or None,
            ),
            "endpoint.changed",
        )
    except Problem as problem:
        return draw_endpoint(endpoint_id, problem)
    return go(f"/endpoints/{endpoint_id}")


@blueprint.post("/endpoints/<endpoint_id>/reveal")
@require("endpoints:write")
def reveal_endpoint(endpoint_id: str) -> Any:
    """Show the signing secret, and note who looked."""
    act(endpoint_id, endpoints.get, "endpoint.secret_shown")
    return draw_endpoint(endpoint_id, is_open=True)


@blueprint.post("/endpoints/<endpoint_id>/test")
@require("endpoints:write")
def try_endpoint(endpoint_id: str) -> Any:
    """Send a test event and show the answer."""
    organization_id = principal().organization_id
    with reading(organization_id) as session:
        parcel = trials.parcel(endpoints.get(session, organization_id, endpoint_id))
    one = attempts.try_once(parcel)
    answer = one.result if isinstance(one.result, HttpResponse) else None
    return draw_endpoint(
        endpoint_id,
        tried={
            "failure": outcomes.failure_of(one.result),
            "status": answer.status if answer else None,
            "elapsed_ms": one.elapsed_ms,
            "body": answer.body.decode("utf-8", "replace") if answer else "",
        },
    )


@blueprint.post("/endpoints/<endpoint_id>/pause")
@require("endpoints:write")
def pause_endpoint(endpoint_id: str) -> Any:
    """Hold deliveries back."""
    act(endpoint_id, endpoints.pause, "endpoint.paused")
    return go(f"/endpoints/{endpoint_id}", "paused")


@blueprint.post("/endpoints/<endpoint_id>/resume")
@require("endpoints:write")
def resume_endpoint(endpoint_id: str) -> Any:
    """Send again."""
    act(endpoint_id, endpoints.resume, "endpoint.resumed")
    return go(f"/endpoints/{endpoint_id}", "resumed")


@blueprint.post("/endpoints/<endpoint_id>/probe")
@require("endpoints:write")
def probe_endpoint(endpoint_id: str) -> Any:
    """Try now whether the target is back."""
    try:
        act(endpoint_id, endpoints.try_now, "endpoint.probed")
    except Problem as problem:
        return draw_endpoint(endpoint_id, problem)
    return go(f"/endpoints/{endpoint_id}", "probed")


@blueprint.post("/endpoints/<endpoint_id>/disable")
@require("endpoints:write")
def disable_endpoint(endpoint_id: str) -> Any:
    """Stop sending for good."""
    act(endpoint_id, endpoints.disable, "endpoint.disabled")
    return go(f"/endpoints/{endpoint_id}", "disabled")


@blueprint.post("/endpoints/<endpoint_id>/send-missed")
@require("deliveries:replay")
def send_missed(endpoint_id: str) -> Any:
    """Send what was held while the endpoint was off."""
    try:
        act(endpoint_id, replay.send_missed, "endpoint.missed_sent")
    except Problem as problem:
        return draw_endpoint(endpoint_id, problem)
    return go(f"/endpoints/{endpoint_id}", "recovered")


@blueprint.post("/endpoints/<endpoint_id>/recover")
@require("deliveries:replay")
def recover_endpoint(endpoint_id: str) -> Any:
    """Send what the endpoint missed."""
    hours = int(typed("hours")) if typed("hours") in SINCE else 24
    since = clock.now() - timedelta(hours=hours)
    try:
        act(endpoint_id, lambda s, o, i: replay.recover(s, o, i, since), "endpoint.recovered")
    except Problem as problem:
        return draw_endpoint(endpoint_id, problem)
    return go(f"/endpoints/{endpoint_id}", "recovered")


def act(endpoint_id: str, verb: Callable[..., Any], action: str) -> None:
    """Do something to an endpoint in a transaction, and write down who did it."""
    who = principal()
    with transaction(who.organization_id) as session:
        verb(session, who.organization_id, endpoint_id)
        audit.record(session, who, action, endpoint_id)

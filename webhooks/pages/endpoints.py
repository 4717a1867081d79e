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
from kernel.errors import N_, Problem
from kernel.http import Response as HttpResponse
from kernel.web import page_of
from webhooks import attempts, endpoints, replay
from webhooks.pages.drawing import REASONS, blueprint, draw, go, typed
from webhooks.tables import DELIVERY, ENDPOINT

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
        counts = endpoints.counts(session, organization_id)
    return draw("endpoints.html", page=page, counts=counts)


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


def _wanted() -> list[str]:
    return [text for text in typed("event_types", 5000).replace(",", "\n").split() if text]


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
                event_types=_wanted(),
                description=typed("description", 500),
            )
            audit.record(session, who, "endpoint.created", endpoint.id)
    except Problem as problem:
        return _draw_form(problem)
    return _draw_endpoint(endpoint.id, is_open=True, is_made=True)


@blueprint.get("/endpoints/<endpoint_id>")
@require("endpoints:read")
def show_endpoint(endpoint_id: str) -> Any:
    """Show an endpoint and its deliveries."""
    return _draw_endpoint(endpoint_id)


def _draw_endpoint(
    endpoint_id: str,
    problem: Problem | None = None,
    *,
    is_open: bool = False,
    is_made: bool = False,
    tried: Any = None,
) -> Any:
    who = principal()
    state = request.args.get("state", "")
    wanted = endpoints.deliveries(who.organization_id, endpoint_id, state)
    with reading(who.organization_id) as session:
        endpoint = endpoints.get(session, who.organization_id, endpoint_id)
        cursor = request.args.get("cursor")
        page = page_of(session, wanted, DELIVERY.c.id, cursor=cursor, limit=20)
        counts = endpoints.counts(session, who.organization_id).get(endpoint_id, {})
    return draw(
        "endpoint.html",
        problem=problem,
        endpoint=endpoint,
        page=page,
        counts=counts,
        tried=tried,
        is_made=is_made,
        secret=endpoints.secret_of(endpoint) if is_open else None,
        reasons=REASONS,
        since=SINCE,
        states=STATES,
    )


@blueprint.post("/endpoints/<endpoint_id>/change")
@require("endpoints:write")
def change_endpoint(endpoint_id: str) -> Any:
    """Change address, events or description."""
    url = typed("url", 2000)
    try:
        endpoints.check_url(url)
        _act(
            endpoint_id,
            lambda s, o, i: endpoints.change(
                s, o, i, url=url, event_types=_wanted(), description=typed("description", 500)
            ),
            "endpoint.changed",
        )
    except Problem as problem:
        return _draw_endpoint(endpoint_id, problem)
    return go(f"/endpoints/{endpoint_id}")


@blueprint.post("/endpoints/<endpoint_id>/reveal")
@require("endpoints:write")
def reveal_endpoint(endpoint_id: str) -> Any:
    """Show the signing secret, and note who looked."""
    _act(endpoint_id, endpoints.get, "endpoint.secret_shown")
    return _draw_endpoint(endpoint_id, is_open=True)


@blueprint.post("/endpoints/<endpoint_id>/rotate-secret")
@require("endpoints:write")
def rotate_endpoint_secret(endpoint_id: str) -> Any:
    """Sign with a new secret and show it."""
    _act(endpoint_id, endpoints.rotate_secret, "endpoint.secret_rotated")
    return _draw_endpoint(endpoint_id, is_open=True)


@blueprint.post("/endpoints/<endpoint_id>/test")
@require("endpoints:write")
def try_endpoint(endpoint_id: str) -> Any:
    """Send a test event and show the answer."""
    organization_id = principal().organization_id
    with reading(organization_id) as session:
        parcel = endpoints.test_parcel(endpoints.get(session, organization_id, endpoint_id))
    one = attempts.try_once(parcel)
    answer = one.result if isinstance(one.result, HttpResponse) else None
    return _draw_endpoint(
        endpoint_id,
        tried={
            "failure": attempts.failure_of(one.result),
            "status": answer.status if answer else None,
            "elapsed_ms": one.elapsed_ms,
            "body": answer.body.decode("utf-8", "replace") if answer else "",
        },
    )


@blueprint.post("/endpoints/<endpoint_id>/pause")
@require("endpoints:write")
def pause_endpoint(endpoint_id: str) -> Any:
    """Hold deliveries back."""
    _act(endpoint_id, endpoints.pause, "endpoint.paused")
    return go(f"/endpoints/{endpoint_id}", "paused")


@blueprint.post("/endpoints/<endpoint_id>/resume")
@require("endpoints:write")
def resume_endpoint(endpoint_id: str) -> Any:
    """Send again."""
    _act(endpoint_id, endpoints.resume, "endpoint.resumed")
    return go(f"/endpoints/{endpoint_id}", "resumed")


@blueprint.post("/endpoints/<endpoint_id>/disable")
@require("endpoints:write")
def disable_endpoint(endpoint_id: str) -> Any:
    """Stop sending for good."""
    _act(endpoint_id, endpoints.disable, "endpoint.disabled")
    return go(f"/endpoints/{endpoint_id}", "disabled")


@blueprint.post("/endpoints/<endpoint_id>/recover")
@require("deliveries:replay")
def recover_endpoint(endpoint_id: str) -> Any:
    """Send what the endpoint missed."""
    hours = int(typed("hours")) if typed("hours") in SINCE else 24
    since = clock.now() - timedelta(hours=hours)
    try:
        _act(endpoint_id, lambda s, o, i: replay.recover(s, o, i, since), "endpoint.recovered")
    except Problem as problem:
        return _draw_endpoint(endpoint_id, problem)
    return go(f"/endpoints/{endpoint_id}", "recovered")


def _act(endpoint_id: str, verb: Callable[..., Any], action: str) -> None:
    who = principal()
    with transaction(who.organization_id) as session:
        verb(session, who.organization_id, endpoint_id)
        audit.record(session, who, action, endpoint_id)

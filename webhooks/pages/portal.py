"""The portal's pages: a subscriber's own endpoints, what was sent to them, sending it again."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from flask import request

from catalog import event_types
from identity import audit, throttle
from kernel import clock
from kernel.database import EVERY, reading, transaction
from kernel.errors import Invalid, Problem
from kernel.http import Response as HttpResponse
from kernel.web import page_of
from webhooks import (
    attempts,
    deletions,
    deliveries,
    endpoints,
    events,
    outcomes,
    payloads,
    replay,
    subscribers,
    trials,
)
from webhooks.pages.drawing import NOT_CONFIRMED, REASONS, go, typed
from webhooks.pages.endpoints import SINCE, STATES
from webhooks.pages.portal_door import blueprint, draw_portal, in_portal, visit
from webhooks.parcels import cloud_event
from webhooks.tables import DELIVERY, Endpoint


@blueprint.get("")
@in_portal
def show_portal() -> Any:
    """Show the subscriber's endpoints."""
    link = visit().link
    with reading(link.organization_id) as session:
        found = list(session.execute(subscribers.listing(link)).scalars())
        counts = subscribers.count_of_deliveries(session, link)
    return draw_portal("portal.html", endpoints=found, counts=counts)


@blueprint.get("/endpoints/new")
@in_portal
def new_portal_endpoint() -> Any:
    """Ask for an address and the events it wants."""
    return _draw_form()


def _draw_form(problem: Problem | None = None) -> Any:
    return draw_portal("portal_new.html", problem=problem, offered=_offered(), chosen=_chosen())


def _chosen() -> list[str]:
    return request.form.getlist("event_types")[:100]


def _offered() -> list[tuple[str, dict[str, str] | None]]:
    """List what may be chosen: what the link names, and each type that it covers."""
    link = visit().link
    with reading(link.organization_id) as session:
        known = event_types.all_types(session, link.organization_id)
    titles: dict[str, dict[str, str] | None] = dict.fromkeys(link.event_types)
    for one in known:
        if subscribers.is_within(link.event_types, one.name):
            titles[one.name] = one.title
    return list(titles.items())


@blueprint.post("/endpoints")
@in_portal
def create_portal_endpoint() -> Any:
    """Add an endpoint and show its signing secret."""
    link, url = visit().link, typed("url", 2000)
    try:
        _reserve()
        endpoints.check_url(url)
        with transaction(link.organization_id) as session:
            made = subscribers.register(
                session,
                link,
                url=url,
                event_types=_chosen(),
                description=typed("description", 500),
                signature="ed25519" if typed("signature") == "ed25519" else "hmac",
            )
            audit.record(session, _actor(), "endpoint.created", made.id)
    except Problem as problem:
        return _draw_form(problem)
    return _draw_endpoint(made.id, is_open=True)


@blueprint.get("/endpoints/<endpoint_id>")
@in_portal
def show_portal_endpoint(endpoint_id: str) -> Any:
    """Show one of the subscriber's endpoints and its deliveries."""
    return _draw_endpoint(endpoint_id)


def _draw_endpoint(
    endpoint_id: str,
    problem: Problem | None = None,
    *,
    is_open: bool = False,
    tried: Any = None,
) -> Any:
    link, state = visit().link, request.args.get("state", "")
    with reading(link.organization_id) as session:
        found = subscribers.endpoint(session, link, endpoint_id)
        wanted = subscribers.deliveries(link, found.id, state)
        cursor = request.args.get("cursor")
        page = page_of(session, wanted, DELIVERY.c.id, cursor=cursor, limit=20)
    return draw_portal(
        "portal_endpoint.html",
        problem=problem,
        endpoint=found,
        page=page,
        tried=tried,
        secret=endpoints.secret_of(found) if is_open else None,
        is_open=is_open,
        signing_until=endpoints.signing_until(found),
        offered=_offered(),
        chosen=_chosen() or found.event_types,
        reasons=REASONS,
        since=SINCE,
        states=STATES,
        readable_at=f"/portal/endpoints/{endpoint_id}",
    )


@blueprint.post("/endpoints/<endpoint_id>/change")
@in_portal
def change_portal_endpoint(endpoint_id: str) -> Any:
    """Change address, events or description."""
    link, url = visit().link, typed("url", 2000)
    _look(endpoint_id)
    try:
        _reserve()
        endpoints.check_url(url)
        with transaction(link.organization_id) as session:
            subscribers.change(
                session,
                link,
                endpoint_id,
                url=url,
                event_types=_chosen(),
                description=typed("description", 500),
            )
            audit.record(session, _actor(), "endpoint.changed", endpoint_id)
    except Problem as problem:
        return _draw_endpoint(endpoint_id, problem)
    return go(f"/portal/endpoints/{endpoint_id}")


@blueprint.post("/endpoints/<endpoint_id>/reveal")
@in_portal
def reveal_portal_endpoint(endpoint_id: str) -> Any:
    """Show the signing secret, and note who looked."""
    _act(endpoint_id, endpoints.get, "endpoint.secret_shown")
    return _draw_endpoint(endpoint_id, is_open=True)


@blueprint.post("/endpoints/<endpoint_id>/rotate-secret")
@in_portal
def rotate_portal_secret(endpoint_id: str) -> Any:
    """Sign with a new secret; the old one signs too for a day."""
    try:
        _act(endpoint_id, endpoints.rotate_secret, "endpoint.secret_rotated", is_limited=True)
    except Problem as problem:
        return _draw_endpoint(endpoint_id, problem)
    return _draw_endpoint(endpoint_id, is_open=True)


@blueprint.post("/endpoints/<endpoint_id>/test")
@in_portal
def try_portal_endpoint(endpoint_id: str) -> Any:
    """Send a test event and show the answer."""
    parcel = trials.parcel(_look(endpoint_id))
    try:
        _reserve()
    except Problem as problem:
        return _draw_endpoint(endpoint_id, problem)
    one = attempts.try_once(parcel)
    answer = one.result if isinstance(one.result, HttpResponse) else None
    return _draw_endpoint(
        endpoint_id,
        tried={
            "failure": outcomes.failure_of(one.result),
            "status": answer.status if answer else None,
            "elapsed_ms": one.elapsed_ms,
            "body": answer.body.decode("utf-8", "replace") if answer else "",
        },
    )


@blueprint.post("/endpoints/<endpoint_id>/pause")
@in_portal
def pause_portal_endpoint(endpoint_id: str) -> Any:
    """Hold deliveries back."""
    _act(endpoint_id, endpoints.pause, "endpoint.paused")
    return go(f"/portal/endpoints/{endpoint_id}", "paused")


@blueprint.post("/endpoints/<endpoint_id>/resume")
@in_portal
def resume_portal_endpoint(endpoint_id: str) -> Any:
    """Send again."""
    _act(endpoint_id, endpoints.resume, "endpoint.resumed")
    return go(f"/portal/endpoints/{endpoint_id}", "resumed")


@blueprint.get("/endpoints/<endpoint_id>/delete")
@in_portal
def ask_to_delete_portal_endpoint(endpoint_id: str) -> Any:
    """Say what a deletion would do to what is under way."""
    return _draw_deletion(endpoint_id)


def _draw_deletion(endpoint_id: str, problem: Problem | None = None) -> Any:
    link = visit().link
    with reading(link.organization_id) as session:
        found = subscribers.endpoint(session, link, endpoint_id)
        moving = deletions.under_way(session, link.organization_id, endpoint_id)
    return draw_portal(
        "portal_delete.html",
        problem=problem,
        endpoint=found,
        moving=moving,
        readable_at=f"/portal/endpoints/{endpoint_id}/delete",
    )


@blueprint.post("/endpoints/<endpoint_id>/delete")
@in_portal
def delete_portal_endpoint(endpoint_id: str) -> Any:
    """Delete it; what waits for it is not sent any more."""
    _look(endpoint_id)
    if typed("confirmed") != "yes":
        return _draw_deletion(endpoint_id, Invalid(errors=[NOT_CONFIRMED]))
    _act(endpoint_id, deletions.delete, "endpoint.deleted")
    return go("/portal", "endpoint_deleted")


@blueprint.post("/endpoints/<endpoint_id>/recover")
@in_portal
def recover_portal_endpoint(endpoint_id: str) -> Any:
    """Send what the endpoint missed."""
    hours = int(typed("hours")) if typed("hours") in SINCE else 24
    since = clock.now() - timedelta(hours=hours)
    _look(endpoint_id)
    try:
        _act(
            endpoint_id,
            lambda s, o, i: replay.recover(s, o, i, since),
            "endpoint.recovered",
            is_limited=True,
        )
    except Problem as problem:
        return _draw_endpoint(endpoint_id, problem)
    return go(f"/portal/endpoints/{endpoint_id}", "recovered")


@blueprint.get("/deliveries/<delivery_id>")
@in_portal
def show_portal_delivery(delivery_id: str) -> Any:
    """Show a delivery to one of the subscriber's endpoints, with its attempts."""
    return _draw_delivery(delivery_id)


def _draw_delivery(delivery_id: str, problem: Problem | None = None) -> Any:
    link = visit().link
    with reading(link.organization_id) as session:
        found, to = subscribers.delivery(session, link, delivery_id)
        event = events.get(session, link.organization_id, found.event_id)
        tries = deliveries.attempts_of(session, link.organization_id, found.id)
    is_referred = payloads.is_referred(event.body, to.model_dump())
    sent = cloud_event(event.model_dump(), to.id if is_referred else "")
    return draw_portal(
        "portal_delivery.html",
        problem=problem,
        delivery=found,
        endpoint=to,
        event=event,
        sent=sent[: subscribers.SHOWN_BYTES].decode("utf-8", "ignore"),
        is_cut=len(sent) > subscribers.SHOWN_BYTES,
        tries=[(one, one.response_body.decode("utf-8", "replace")) for one in tries],
        readable_at=f"/portal/deliveries/{delivery_id}",
    )


@blueprint.post("/deliveries/<delivery_id>/resend")
@in_portal
def resend_portal_delivery(delivery_id: str) -> Any:
    """Send it again."""
    link = visit().link
    with reading(link.organization_id) as session:
        subscribers.delivery(session, link, delivery_id)
    try:
        _reserve()
        with transaction(link.organization_id) as session:
            found, _ = subscribers.delivery(session, link, delivery_id)
            replay.resend(session, link.organization_id, found.id)
            audit.record(session, _actor(), "delivery.resent", found.id)
    except Problem as problem:
        return _draw_delivery(delivery_id, problem)
    return go(f"/portal/deliveries/{delivery_id}", "resent")


def _look(endpoint_id: str) -> Endpoint:
    """Return the subscriber's endpoint; NotFound comes before anything is counted or looked up."""
    link = visit().link
    with reading(link.organization_id) as session:
        return subscribers.endpoint(session, link, endpoint_id)


def _act(
    endpoint_id: str, verb: Callable[..., Any], action: str, *, is_limited: bool = False
) -> None:
    """Do something to one of the subscriber's endpoints, and write down who did it."""
    link = visit().link
    if is_limited:
        _look(endpoint_id)
        _reserve()
    with transaction(link.organization_id) as session:
        found = subscribers.endpoint(session, link, endpoint_id)
        verb(session, link.organization_id, found.id)
        audit.record(session, _actor(), action, found.id)


def _reserve() -> None:
    """Count a deed that calls out or starts work; raises TooMany."""
    with transaction(EVERY) as session:
        throttle.reserve(session, subscribers.limits(visit().link))


def _actor() -> Any:
    return subscribers.actor(visit().link, request.remote_addr)

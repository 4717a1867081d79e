"""Endpoints and their deliveries over JSON."""

from functools import partial
from typing import Any

from flask import Blueprint, request

from identity import audit
from identity.guard import principal, require
from kernel.database import reading, transaction
from kernel.errors import N_
from kernel.http import Response as HttpResponse
from kernel.web import Page, operation, page_of
from webhooks import (
    attempts,
    certificates,
    deletions,
    deliveries,
    endpoints,
    outcomes,
    replay,
    trials,
)
from webhooks.endpoint_schemas import (
    AttemptOut,
    CertificateIn,
    DeliveryOut,
    EndpointDetailOut,
    EndpointIn,
    EndpointOut,
    EndpointPatch,
    EndpointSecretOut,
    RecoveredOut,
    RecoverIn,
    RotateIn,
    TriedOut,
)
from webhooks.tables import DELIVERY, ENDPOINT, Attempt, Delivery, Endpoint

blueprint = Blueprint("endpoints", __name__)

audit.name_actions(
    {
        "endpoint.created": N_("registered an endpoint"),
        "endpoint.changed": N_("changed an endpoint"),
        "endpoint.secret_shown": N_("looked at an endpoint's secret"),
        "endpoint.secret_rotated": N_("gave an endpoint a new secret"),
        "endpoint.certificate_changed": N_("changed an endpoint's client certificate"),
        "endpoint.deleted": N_("deleted an endpoint"),
        "endpoint.paused": N_("paused an endpoint"),
        "endpoint.resumed": N_("resumed an endpoint"),
        "endpoint.probed": N_("tried whether an endpoint is back"),
        "endpoint.missed_sent": N_("sent an endpoint what was held while it was off"),
        "endpoint.recovered": N_("sent an endpoint what it missed"),
        "delivery.resent": N_("sent a delivery again"),
        "delivery.cancelled": N_("cancelled a delivery"),
    }
)


def with_secret(endpoint: Endpoint) -> EndpointSecretOut:
    """Shape an endpoint together with its signing secret."""
    shown = EndpointOut.model_validate(endpoint, from_attributes=True).model_dump()
    return EndpointSecretOut(**shown, secret=endpoints.secret_of(endpoint))


def attempt_out(attempt: Attempt) -> AttemptOut:
    """Shape an attempt; a body that is not text is shown as far as it can be."""
    shown = attempt.model_dump(exclude={"response_body"})
    return AttemptOut(**shown, response_body=attempt.response_body.decode("utf-8", "replace"))


@blueprint.get("/endpoints")
@require("endpoints:read")
@operation(summary="List endpoints", returns=EndpointOut, many=True)
def list_endpoints() -> Page:
    organization_id = principal().organization_id
    wanted = endpoints.listing(organization_id)
    with reading(organization_id) as session:
        cursor, limit = request.args.get("cursor"), request.args.get("limit", 50, type=int)
        return page_of(session, wanted, ENDPOINT.c.id, cursor=cursor, limit=limit)


@blueprint.post("/endpoints")
@require("endpoints:write")
@operation(summary="Register an endpoint", body=EndpointIn, returns=EndpointSecretOut, status=201)
def create_endpoint(body: EndpointIn) -> EndpointSecretOut:
    actor = principal()
    endpoints.check_url(body.url)
    with transaction(actor.organization_id) as session:
        endpoint = endpoints.register(session, actor.organization_id, **body.model_dump())
        audit.record(session, actor, "endpoint.created", endpoint.id)
        return with_secret(endpoint)


@blueprint.get("/endpoints/<endpoint_id>")
@require("endpoints:read")
@operation(summary="Show an endpoint", returns=EndpointDetailOut)
def show_endpoint(endpoint_id: str) -> EndpointDetailOut:
    organization_id = principal().organization_id
    with reading(organization_id) as session:
        endpoint = endpoints.get(session, organization_id, endpoint_id)
        missed = deliveries.count_missed(session, organization_id, endpoint_id)
    shown = EndpointOut.model_validate(endpoint, from_attributes=True).model_dump()
    return EndpointDetailOut(**shown, missed=missed)


@blueprint.patch("/endpoints/<endpoint_id>")
@require("endpoints:write")
@operation(summary="Change an endpoint", body=EndpointPatch, returns=EndpointOut)
def change_endpoint(endpoint_id: str, body: EndpointPatch) -> Endpoint:
    actor = principal()
    if body.url is not None:
        endpoints.check_url(body.url)
    values = body.model_dump(exclude_none=True)
    with transaction(actor.organization_id) as session:
        endpoint = endpoints.change(session, actor.organization_id, endpoint_id, **values)
        audit.record(session, actor, "endpoint.changed", endpoint.id)
        return endpoint


@blueprint.post("/endpoints/<endpoint_id>/reveal")
@require("endpoints:write")
@operation(summary="Show an endpoint's signing secret", returns=EndpointSecretOut)
def reveal_endpoint(endpoint_id: str) -> EndpointSecretOut:
    return with_secret(_act(endpoint_id, endpoints.get, "endpoint.secret_shown"))


@blueprint.post("/endpoints/<endpoint_id>/rotate-secret")
@require("endpoints:write")
@operation(summary="Sign with a new secret", body=RotateIn, returns=EndpointSecretOut)
def rotate_endpoint_secret(endpoint_id: str, body: RotateIn) -> EndpointSecretOut:
    verb = partial(endpoints.rotate_secret, **body.model_dump())
    return with_secret(_act(endpoint_id, verb, "endpoint.secret_rotated"))


@blueprint.put("/endpoints/<endpoint_id>/certificate")
@require("endpoints:write")
@operation(summary="Show a client certificate", body=CertificateIn, returns=EndpointOut)
def set_endpoint_certificate(endpoint_id: str, body: CertificateIn) -> Endpoint:
    verb = partial(certificates.give, chain=body.certificate, key=body.private_key)
    return _act(endpoint_id, verb, "endpoint.certificate_changed")


@blueprint.delete("/endpoints/<endpoint_id>/certificate")
@require("endpoints:write")
@operation(summary="Show a client certificate no more", returns=EndpointOut)
def remove_endpoint_certificate(endpoint_id: str) -> Endpoint:
    return _act(endpoint_id, certificates.take_away, "endpoint.certificate_changed")


@blueprint.post("/endpoints/<endpoint_id>/pause")
@require("endpoints:write")
@operation(summary="Hold an endpoint's deliveries back", returns=EndpointOut)
def pause_endpoint(endpoint_id: str) -> Endpoint:
    return _act(endpoint_id, endpoints.pause, "endpoint.paused")


@blueprint.post("/endpoints/<endpoint_id>/resume")
@require("endpoints:write")
@operation(summary="Send to an endpoint again", returns=EndpointOut)
def resume_endpoint(endpoint_id: str) -> Endpoint:
    return _act(endpoint_id, endpoints.resume, "endpoint.resumed")


@blueprint.post("/endpoints/<endpoint_id>/probe")
@require("endpoints:write")
@operation(summary="Try now whether a held endpoint is back", returns=EndpointOut)
def probe_endpoint(endpoint_id: str) -> Endpoint:
    return _act(endpoint_id, endpoints.try_now, "endpoint.probed")


@blueprint.delete("/endpoints/<endpoint_id>")
@require("endpoints:write")
@operation(
    summary="Delete an endpoint; what waits for it is not sent any more", returns=EndpointOut
)
def delete_endpoint(endpoint_id: str) -> Endpoint:
    return _act(endpoint_id, deletions.delete, "endpoint.deleted")


@blueprint.post("/endpoints/<endpoint_id>/disable")
@require("endpoints:write")
@operation(summary="Stop sending to an endpoint", returns=EndpointOut)
def disable_endpoint(endpoint_id: str) -> Endpoint:
    return _act(endpoint_id, endpoints.disable, "endpoint.disabled")


def _act(endpoint_id: str, verb: Any, action: str) -> Endpoint:
    actor = principal()
    with transaction(actor.organization_id) as session:
        endpoint: Endpoint = verb(session, actor.organization_id, endpoint_id)
        audit.record(session, actor, action, endpoint.id)
        return endpoint


@blueprint.post("/endpoints/<endpoint_id>/test")
@require("endpoints:write")
@operation(summary="Send a test event and see the answer", returns=TriedOut)
def try_endpoint(endpoint_id: str) -> TriedOut:
    organization_id = principal().organization_id
    with reading(organization_id) as session:
        parcel = trials.parcel(endpoints.get(session, organization_id, endpoint_id))
    tried = attempts.try_once(parcel)
    answer = tried.result if isinstance(tried.result, HttpResponse) else None
    return TriedOut(
        event_id=parcel.event_id,
        status=answer.status if answer else None,
        failure=outcomes.failure_of(tried.result),
        elapsed_ms=tried.elapsed_ms,
        response_body=answer.body.decode("utf-8", "replace") if answer else "",
    )


@blueprint.post("/endpoints/<endpoint_id>/send-missed")
@require("deliveries:replay")
@operation(summary="Send what was held while an endpoint was off", returns=RecoveredOut)
def send_missed(endpoint_id: str) -> RecoveredOut:
    actor = principal()
    with transaction(actor.organization_id) as session:
        count = replay.send_missed(session, actor.organization_id, endpoint_id)
        audit.record(session, actor, "endpoint.missed_sent", endpoint_id)
        return RecoveredOut(deliveries=count)


@blueprint.post("/endpoints/<endpoint_id>/recover")
@require("deliveries:replay")
@operation(summary="Send an endpoint what it missed", body=RecoverIn, returns=RecoveredOut)
def recover_endpoint(endpoint_id: str, body: RecoverIn) -> RecoveredOut:
    actor = principal()
    with transaction(actor.organization_id) as session:
        count = replay.recover(session, actor.organization_id, endpoint_id, body.since)
        audit.record(session, actor, "endpoint.recovered", endpoint_id)
        return RecoveredOut(deliveries=count)


@blueprint.get("/deliveries")
@require("deliveries:read")
@operation(summary="List deliveries", returns=DeliveryOut, many=True)
def list_deliveries() -> Page:
    organization_id = principal().organization_id
    wanted = deliveries.listing(
        organization_id, request.args.get("endpoint_id"), request.args.get("state")
    )
    with reading(organization_id) as session:
        cursor, limit = request.args.get("cursor"), request.args.get("limit", 50, type=int)
        return page_of(session, wanted, DELIVERY.c.id, cursor=cursor, limit=limit)


@blueprint.get("/deliveries/<delivery_id>")
@require("deliveries:read")
@operation(summary="Show a delivery", returns=DeliveryOut)
def show_delivery(delivery_id: str) -> Delivery:
    organization_id = principal().organization_id
    with reading(organization_id) as session:
        return deliveries.get(session, organization_id, delivery_id)


@blueprint.get("/deliveries/<delivery_id>/attempts")
@require("deliveries:read")
@operation(summary="Show a delivery's attempts", returns=AttemptOut, many=True)
def list_attempts(delivery_id: str) -> Page:
    organization_id = principal().organization_id
    with reading(organization_id) as session:
        found = deliveries.get(session, organization_id, delivery_id)
        tries = deliveries.attempts_of(session, organization_id, found.id)
        return Page([attempt_out(attempt) for attempt in tries], None)


@blueprint.post("/deliveries/<delivery_id>/resend")
@require("deliveries:replay")
@operation(summary="Send a delivery again", returns=DeliveryOut)
def resend_delivery(delivery_id: str) -> Delivery:
    actor = principal()
    with transaction(actor.organization_id) as session:
        found = replay.resend(session, actor.organization_id, delivery_id)
        audit.record(session, actor, "delivery.resent", found.id)
        return found


@blueprint.post("/deliveries/<delivery_id>/cancel")
@require("deliveries:replay")
@operation(summary="Cancel a delivery", returns=DeliveryOut)
def cancel_delivery(delivery_id: str) -> Delivery:
    actor = principal()
    with transaction(actor.organization_id) as session:
        found = replay.cancel(session, actor.organization_id, delivery_id)
        audit.record(session, actor, "delivery.cancelled", found.id)
        return found

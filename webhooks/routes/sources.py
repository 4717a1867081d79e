"""Sources over JSON."""

from typing import Any

from flask import Blueprint, request

from identity import audit
from identity.guard import principal, require
from kernel.database import reading, transaction
from kernel.errors import N_
from kernel.web import Page, operation, page_of
from webhooks import fillings, intake, offers, sources
from webhooks.schemas import (
    AskedOut,
    FilledIn,
    OfferOut,
    SecretIn,
    SourceIn,
    SourceOut,
    SourcePatch,
    SourceSecretOut,
)
from webhooks.tables import SOURCE, Source

blueprint = Blueprint("sources", __name__)

audit.name_actions(
    {
        "source.created": N_("opened a source"),
        "source.changed": N_("changed a source"),
        "source.secret_shown": N_("looked at a source's secret"),
        "source.secret_rotated": N_("gave a source a new secret"),
        "source.token_rotated": N_("gave a source a new address"),
        "source.paused": N_("paused a source"),
        "source.resumed": N_("resumed a source"),
    }
)


def with_secret(source: Source) -> SourceSecretOut:
    """Shape a source together with its address and secret."""
    shown = SourceOut.model_validate(source, from_attributes=True).model_dump()
    return SourceSecretOut(
        **shown,
        url=sources.url_of(source),
        secret=sources.secret_of(source),
        filled=fillings.get(source),
    )


@blueprint.get("/sources")
@require("sources:read")
@operation(summary="List sources", returns=SourceOut, many=True)
def list_sources() -> Page:
    organization_id = principal().organization_id
    with reading(organization_id) as session:
        cursor, limit = request.args.get("cursor"), request.args.get("limit", 50, type=int)
        return page_of(
            session, sources.listing(organization_id), SOURCE.c.id, cursor=cursor, limit=limit
        )


@blueprint.post("/sources")
@require("sources:write")
@operation(summary="Open a source", body=SourceIn, returns=SourceSecretOut, status=201)
def create_source(body: SourceIn) -> SourceSecretOut:
    actor = principal()
    values: dict[str, Any] = {
        "scheme": body.scheme,
        "scheme_options": body.scheme_options,
        "rules": body.type_rules,
    }
    if body.offer is not None:
        values = offers.values_of(body.offer)
    with transaction(actor.organization_id) as session:
        source = sources.create(
            session,
            actor.organization_id,
            name=body.name,
            secret=body.secret,
            unknown_types=body.unknown_types,
            filled=body.filled,
            **values,
        )
        audit.record(session, actor, "source.created", source.id)
        return with_secret(source)


@blueprint.get("/source-offers")
@require("sources:read")
@operation(summary="List known senders", returns=OfferOut, many=True)
def list_offers() -> list[OfferOut]:
    return [
        OfferOut(
            key=one.key,
            title=dict(one.title),
            text=dict(one.text),
            asks=[AskedOut(**ask) for ask in one.asks],
        )
        for one in offers.listing()
    ]


@blueprint.get("/sources/<source_id>")
@require("sources:read")
@operation(summary="Show a source", returns=SourceOut)
def show_source(source_id: str) -> Source:
    with reading(principal().organization_id) as session:
        return sources.get(session, principal().organization_id, source_id)


@blueprint.patch("/sources/<source_id>")
@require("sources:write")
@operation(summary="Change a source", body=SourcePatch, returns=SourceOut)
def change_source(source_id: str, body: SourcePatch) -> Source:
    actor = principal()
    values = body.model_dump(exclude_none=True)
    values["rules"] = values.pop("type_rules", None)
    with transaction(actor.organization_id) as session:
        source = sources.change(session, actor.organization_id, source_id, **values)
        audit.record(session, actor, "source.changed", source.id)
    intake.forget()
    return source


@blueprint.post("/sources/<source_id>/reveal")
@require("sources:write")
@operation(summary="Show a source's address and secret", returns=SourceSecretOut)
def reveal_source(source_id: str) -> SourceSecretOut:
    actor = principal()
    with transaction(actor.organization_id) as session:
        source = sources.get(session, actor.organization_id, source_id)
        audit.record(session, actor, "source.secret_shown", source.id)
        return with_secret(source)


@blueprint.post("/sources/<source_id>/rotate-secret")
@require("sources:write")
@operation(summary="Give a source a new secret", body=SecretIn, returns=SourceSecretOut)
def rotate_source_secret(source_id: str, body: SecretIn) -> SourceSecretOut:
    actor = principal()
    with transaction(actor.organization_id) as session:
        source = sources.rotate_secret(session, actor.organization_id, source_id, body.secret)
        audit.record(session, actor, "source.secret_rotated", source.id)
        shown = with_secret(source)
    intake.forget()
    return shown


@blueprint.post("/sources/<source_id>/renew-values")
@require("sources:write")
@operation(summary="Give a source's recipe new values", body=FilledIn, returns=SourceSecretOut)
def renew_source_values(source_id: str, body: FilledIn) -> SourceSecretOut:
    actor = principal()
    with transaction(actor.organization_id) as session:
        source = fillings.renew(session, actor.organization_id, source_id, body.filled)
        audit.record(session, actor, "source.secret_rotated", source.id)
        shown = with_secret(source)
    intake.forget()
    return shown


@blueprint.post("/sources/<source_id>/rotate-token")
@require("sources:write")
@operation(summary="Give a source a new address", returns=SourceSecretOut)
def rotate_source_token(source_id: str) -> SourceSecretOut:
    actor = principal()
    with transaction(actor.organization_id) as session:
        source = sources.rotate_token(session, actor.organization_id, source_id)
        audit.record(session, actor, "source.token_rotated", source.id)
        shown = with_secret(source)
    intake.forget()
    return shown


@blueprint.post("/sources/<source_id>/pause")
@require("sources:write")
@operation(summary="Pause a source", returns=SourceOut)
def pause_source(source_id: str) -> Source:
    return _set_state(source_id, "paused")


@blueprint.post("/sources/<source_id>/resume")
@require("sources:write")
@operation(summary="Resume a source", returns=SourceOut)
def resume_source(source_id: str) -> Source:
    return _set_state(source_id, "active")


def _set_state(source_id: str, state: str) -> Source:
    actor = principal()
    action = "source.paused" if state == "paused" else "source.resumed"
    with transaction(actor.organization_id) as session:
        source = sources.set_state(session, actor.organization_id, source_id, state)
        audit.record(session, actor, action, source.id)
    intake.forget()
    return source

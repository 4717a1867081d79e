"""Usage over JSON: what was counted, a source's quota, what was refused at a source."""

from typing import Any

from flask import Blueprint, request

from identity import audit
from identity.guard import principal, require
from kernel.database import reading, transaction
from kernel.errors import N_
from kernel.web import operation
from webhooks import figures, limits, sources
from webhooks.pages.refused import of_source
from webhooks.schemas import (
    LimitsOut,
    QuotaIn,
    RefusalCountOut,
    RefusalOut,
    RefusalsOut,
    SpanOut,
    UsageOut,
    WaitingOut,
)

blueprint = Blueprint("usage", __name__)

audit.name_actions(
    {
        "source.quota_changed": N_("changed a source's quota"),
        "source.refusals_cleared": N_("cleared what was refused at a source"),
    }
)


@blueprint.get("/usage")
@require("sources:read")
@operation(
    summary="Show usage by hour, or with ?by=day by day, of one source with ?source_id=",
    returns=UsageOut,
)
def show_usage() -> UsageOut:
    organization_id = principal().organization_id
    source_id = request.args.get("source_id")
    count = figures.by_day if request.args.get("by") == "day" else figures.by_hour
    with reading(organization_id) as session:
        if source_id is not None:
            sources.get(session, organization_id, source_id)
        standing = figures.standing(session, organization_id)
        spans = count(session, organization_id, source_id)
    return UsageOut(
        quota=LimitsOut.model_validate(standing.limits, from_attributes=True),
        used_today=standing.used_today,
        day_ends_at=standing.day_ends_at,
        waiting=WaitingOut.model_validate(standing, from_attributes=True),
        spans=[SpanOut(start=span.start, counts=span.counts) for span in spans],
    )


@blueprint.get("/sources/<source_id>/quota")
@require("sources:read")
@operation(summary="Show what a source may send", returns=LimitsOut)
def show_quota(source_id: str) -> Any:
    organization_id = principal().organization_id
    with reading(organization_id) as session:
        sources.get(session, organization_id, source_id)
        return limits.find_of_source(session, organization_id, source_id)


@blueprint.put("/sources/<source_id>/quota")
@require("sources:write")
@operation(
    summary="Lower what a source may send; null leaves it to the organization's quota",
    body=QuotaIn,
    returns=LimitsOut,
)
def set_quota(source_id: str, body: QuotaIn) -> Any:
    who, numbers = principal(), body.model_dump()
    with transaction(who.organization_id) as session:
        found = limits.set_for_source(session, who.organization_id, source_id, numbers)
        audit.record(session, who, "source.quota_changed", source_id, detail=numbers)
        return found


@blueprint.get("/sources/<source_id>/refusals")
@require("sources:read")
@operation(summary="Show what was refused at a source, with advice", returns=RefusalsOut)
def show_refusals(source_id: str) -> RefusalsOut:
    organization_id = principal().organization_id
    with reading(organization_id) as session:
        sources.get(session, organization_id, source_id)
        refused = of_source(session, organization_id, source_id)["refused"]
    notes = [{**one, "detail": one["why"] or code["title"]} for code in refused
             for one in code["notes"]]  # fmt: skip
    return RefusalsOut(
        counts=[RefusalCountOut.model_validate(code) for code in refused],
        latest=sorted((RefusalOut.model_validate(one) for one in notes), key=_when, reverse=True),
    )


def _when(one: RefusalOut) -> Any:
    return one.at

"""Usage as pages: what came in and went out, beside the quotas; and each source's own quota."""

from typing import Any

from flask import request

from identity import audit
from identity.guard import principal, require
from kernel.database import reading, transaction
from kernel.errors import N_, Invalid
from webhooks import figures, limits, refusals, sources
from webhooks.figures import Span
from webhooks.pages.drawing import blueprint, draw, go, typed
from webhooks.pages.sources import draw_source

CHARTS = (
    ("in", N_("Events in"), ("accepted", "duplicate", "rejected", "refused")),
    ("out", N_("Deliveries"), ("delivered", "undelivered")),
    ("runs", N_("Runs"), ("ran", "stuck")),
)
# counter → (what it is called, how it is drawn)
KINDS = {
    "accepted": (N_("Accepted"), "good"),
    "duplicate": (N_("Duplicate"), "quiet"),
    "rejected": (N_("Rejected"), "warn"),
    "refused": (N_("Refused"), "bad"),
    "delivered": (N_("Delivered"), "good"),
    "undelivered": (N_("Failed tries"), "bad"),
    "ran": (N_("Done"), "good"),
    "stuck": (N_("Waiting for a person"), "warn"),
}
REASONS = {
    "refused_proof": N_("The sender could not prove who it is"),
    "refused_form": N_("What was sent could not be read"),
    "refused_limit": N_("Over a quota, or too much was waiting"),
    "refused_pause": N_("The source was paused, or the organization suspended"),
}


@blueprint.get("/usage")
@require("sources:read")
def show_usage() -> Any:
    """Show what was counted, by the hour or by the day."""
    organization_id = principal().organization_id
    is_daily = request.args.get("by") == "day"
    with reading(organization_id) as session:
        standing = figures.standing(session, organization_id)
        count = figures.by_day if is_daily else figures.by_hour
        spans = count(session, organization_id)
    return draw(
        "usage.html",
        standing=standing,
        spans=spans,
        is_daily=is_daily,
        charts=[chart(spans, *one) for one in CHARTS],
        kinds=KINDS,
        deferred=sum(span.counts["deferred"] for span in spans),
        reasons={name: sum(span.counts[name] for span in spans) for name in REASONS},
        reason_words=REASONS,
    )


def chart(spans: list[Span], key: str, title: str, names: tuple[str, ...]) -> dict[str, Any]:
    """Return what charts.html draws: columns, their peak and the sums."""
    peak, columns = figures.columns(spans, names)
    sums = {
        name: sum(span.refused if name == "refused" else span.counts[name] for span in spans)
        for name in names
    }
    return {"key": key, "title": title, "peak": peak, "columns": columns, "sums": sums}


@blueprint.post("/sources/<source_id>/quota")
@require("sources:write")
def set_source_quota(source_id: str) -> Any:
    """Set what a source may send; empty fields leave it to the organization's quota."""
    who = principal()
    try:
        numbers = {name: number(name) for name in ("per_minute", "per_day")}
        with transaction(who.organization_id) as session:
            limits.set_for_source(session, who.organization_id, source_id, numbers)
            audit.record(session, who, "source.quota_changed", source_id, detail=numbers)
    except Invalid as problem:
        return draw_source(source_id, problem)
    return go(f"/sources/{source_id}")


def number(name: str) -> int | None:
    """Read a whole number out of a form's field; empty is None."""
    text = typed(name, 20).replace(",", "").replace(" ", "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        message = N_("Use a whole number from 1 to 1,000,000,000, or leave it empty")
        raise Invalid(errors=[{"pointer": f"/{name}", "message": message}])
    return int(text)


@blueprint.post("/sources/<source_id>/refusals/clear")
@require("sources:write")
def clear_refusals(source_id: str) -> Any:
    """Forget what was refused, once it has been dealt with."""
    who = principal()
    with transaction(who.organization_id) as session:
        sources.get(session, who.organization_id, source_id)
        refusals.clear(session, who.organization_id, source_id)
        audit.record(session, who, "source.refusals_cleared", source_id)
    return go(f"/sources/{source_id}", "cleared")

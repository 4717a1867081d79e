"""How long data is kept, as a page: the rules, what there is today, what happens next."""

from typing import Any

from identity import audit
from identity.guard import principal, require
from kernel.database import reading, transaction
from kernel.errors import N_, Invalid, Problem
from webhooks.keeping import rules, sizes
from webhooks.keeping.rules import Rule
from webhooks.pages.drawing import blueprint, draw, go, typed

TROUBLES = {
    "disk_full": (
        N_("The archive's disk is full, so nothing is archived at present."),
        N_("Nothing was deleted: all events are in the live list still."),
        N_("The operator of the hub makes room; then it goes on by itself within ten minutes."),
    ),
    "folder": (
        N_("The archive's folder cannot be written, so nothing is archived at present."),
        N_("Nothing was deleted: all events are in the live list still."),
        N_("The operator of the hub looks after the folder; then it goes on by itself."),
    ),
    "not_verified": (
        N_("A file of the archive did not come back as it was written, so it was thrown away."),
        N_("Nothing was deleted: all events are in the live list still."),
        N_("It is tried again by itself. The operator of the hub should look at the disk."),
    ),
    "failed": (
        N_("Looking after your data stopped half way."),
        N_("Nothing was lost: whatever is not in the archive is in the live list."),
        N_("It is tried again by itself. The operator of the hub finds the cause in the log."),
    ),
}
NUMBERS = ("live_days", "rejected_days", "archive_days", "detail_days")


@blueprint.get("/settings/data")
@require("events:read")
def show_keeping() -> Any:
    """Show the rules, today's sizes and the next run."""
    return _draw_keeping()


def _draw_keeping(problem: Problem | None = None) -> Any:
    organization_id = principal().organization_id
    with reading(organization_id) as session:
        found = rules.find(session, organization_id)
        sized = sizes.find(session, organization_id)
        state = sizes.state(session, organization_id)
    trouble = TROUBLES.get((state.trouble if state else None) or "")
    return draw(
        "keeping.html",
        problem=problem,
        found=found,
        sizes=sized,
        bars=sizes.bars(sized),
        state=state,
        trouble=trouble,
    )


@blueprint.post("/settings/data/rules")
@require("data:keep")
def decide_rule() -> Any:
    """Set a rule for all events or for some types."""
    who = principal()
    try:
        live, rejected, archive, detail = (_days(name) for name in NUMBERS)
        pattern = typed("event_types", 200) or rules.ALL
        rule = Rule(pattern, live, rejected, archive, detail)
        with transaction(who.organization_id) as session:
            made = rules.decide(session, who.organization_id, rule)
            audit.record(session, who, "retention.changed", made.id, detail=rules.told(made))
    except Problem as problem:
        return _draw_keeping(problem)
    return go("/settings/data")


def _days(name: str) -> int:
    """Read a number of days; what is left out is as the house has it."""
    text = typed(name, 20).replace(",", "").replace(" ", "")
    if not text:
        return int(getattr(rules.DEFAULT, name))
    if not (text.isascii() and text.isdigit()):
        raise Invalid(errors=[{"pointer": f"/{name}", "message": N_("Use a whole number")}])
    return int(text)


@blueprint.post("/settings/data/rules/<rule_id>/remove")
@require("data:keep")
def remove_rule(rule_id: str) -> Any:
    """Take a rule away."""
    who = principal()
    with transaction(who.organization_id) as session:
        gone = rules.remove(session, who.organization_id, rule_id)
        audit.record(session, who, "retention.removed", rule_id, detail=rules.told(gone))
    return go("/settings/data", "rule_removed")


@blueprint.post("/settings/data/run")
@require("data:keep")
def run_keeping() -> Any:
    """Look after the data now instead of at the next run."""
    who = principal()
    with transaction(who.organization_id) as session:
        rules.look_again(session, who.organization_id)
    return go("/settings/data", "keeping_asked")

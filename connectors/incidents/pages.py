"""The recovery desk: what stopped by its cause, one cause whole, and the button that helps."""

from collections.abc import Callable
from typing import Any

from flask import request
from sqlmodel import Session

from connectors import connection_checks, masking
from connectors.incidents import incidents, outward, repairs
from connectors.incidents.tables import Incident
from connectors.pages import incident_words
from connectors.pages.drawing import blueprint, draw, go, typed
from connectors.tables import Run, Step
from identity import audit, members
from identity.guard import principal, require
from identity.principals import Principal
from kernel.database import reading, transaction
from kernel.errors import Problem
from kernel.web import page_of

KINDS = ("run", "retry", "delivery", "refusal")
RUNS_SHOWN = 8


@blueprint.get("/recovery")
@require("runs:read")
def list_incidents() -> Any:
    """Show what is in trouble, by its cause."""
    who, view = principal(), request.args.get("view", "")
    chosen = incidents.select_all(
        who.organization_id,
        "closed" if view == "closed" else "open",
        request.args.get("kind"),
        who.member_id if view == "mine" else None,
    )
    with reading(who.organization_id) as session:
        page = page_of(session, chosen, Incident.id, cursor=request.args.get("cursor"), limit=30)
        names = incident_words.names(session, who.organization_id, page.items)
        counts = incidents.counts(session, who.organization_id)
    return draw(
        "incidents.html",
        view=view,
        page=page,
        rows=[
            (one, incident_words.words(one), incident_words.place(one, names)) for one in page.items
        ],
        names=names,
        counts=counts,
        plot=incidents.plot,
    )


@blueprint.get("/recovery/<incident_id>")
@require("runs:read")
def show_incident(incident_id: str) -> Any:
    """Show one cause: what it holds up, what was tried, what helps."""
    return _draw_one(incident_id)


@blueprint.get("/recovery/<incident_id>/live")
@require("runs:read")
def show_incident_live(incident_id: str) -> Any:
    """Send the part of an incident's page that changes while a repair is under way."""
    return _draw_one(incident_id, template="incident_live.html")


@blueprint.post("/recovery/<incident_id>/<any(replay, give_up, stop, done, send_again):deed>")
@require("runs:replay")
def act_on_incident(incident_id: str, deed: str) -> Any:
    """Repeat or give up its runs, stop that, send deliveries again, mark it as dealt with."""
    who = principal()
    act, action = _DEEDS[deed]
    try:
        with transaction(who.organization_id) as session:
            act(session, who, incident_id)
            audit.record(session, who, action, incident_id, detail={"how": deed})
    except Problem as problem:
        return _draw_one(incident_id, problem=problem)
    return go(f"/recovery/{incident_id}", done=f"incident_{deed}")


@blueprint.post("/recovery/<incident_id>/care")
@require("runs:replay")
def care_for_incident(incident_id: str) -> Any:
    """Say who looks after an incident, and what is to be remembered."""
    who = principal()
    try:
        with transaction(who.organization_id) as session:
            incidents.assign(session, who.organization_id, incident_id, typed("assignee"))
            note = request.form.get("note", "")
            incidents.write_note(session, who.organization_id, incident_id, note)
            audit.record(session, who, "incident.changed", incident_id)
    except Problem as problem:
        return _draw_one(incident_id, problem=problem)
    return go(f"/recovery/{incident_id}", done="incident_saved")


def _replay(session: Session, who: Principal, incident_id: str) -> None:
    canaries = request.form.get("canaries", repairs.CANARIES, type=int)
    repairs.begin(session, who.organization_id, incident_id, who.name, canaries=canaries)


def _give_up(session: Session, who: Principal, incident_id: str) -> None:
    repairs.begin(session, who.organization_id, incident_id, who.name, kind="cancel")


def _stop(session: Session, who: Principal, incident_id: str) -> None:
    incident = incidents.find(session, who.organization_id, incident_id)
    row = repairs.under_way(session, incident)
    if row is not None:
        repairs.stop(session, who.organization_id, row.id, who.name)


def _done(session: Session, who: Principal, incident_id: str) -> None:
    incidents.mark_done(session, who.organization_id, incident_id, who.name)


def _send_again(session: Session, who: Principal, incident_id: str) -> None:
    outward.send_again(session, who, incident_id)


_DEEDS: dict[str, tuple[Callable[[Session, Principal, str], None], str]] = {
    "replay": (_replay, "incident.repair_begun"),
    "give_up": (_give_up, "incident.repair_begun"),
    "stop": (_stop, "incident.repair_stopped"),
    "done": (_done, "incident.closed"),
    "send_again": (_send_again, "incident.repair_begun"),
}


def _draw_one(
    incident_id: str, template: str = "incident.html", problem: Problem | None = None
) -> Any:
    who = principal()
    with reading(who.organization_id) as session:
        incident = incidents.find(session, who.organization_id, incident_id)
        names = incident_words.names(session, who.organization_id, [incident])
        stuck = incidents.stuck_by_flow(session, incident) if incident.kind == "run" else []
        repair = repairs.latest(session, incident)
        shown = _runs(session, incident)
        page = draw(
            template,
            problem=problem,
            incident=incident,
            words=incident_words.words(incident),
            place=incident_words.place(incident, names),
            names=names,
            stuck=stuck,
            runs=shown,
            evidence=_evidence(session, incident),
            app_address=connection_checks.address_of(
                session, who.organization_id, incident.connection_id
            ),
            repair=repair,
            is_moving=repair is not None and repair.next_at is not None,
            seats=members.list_seats(session, who.organization_id),
            bars=incidents.plot(incident),
        )
    if template == "incident_live.html" and repair is not None and repair.next_at is None:
        page.headers["HX-Refresh"] = "true"
    return page


def _runs(session: Session, incident: Incident) -> list[Run]:
    """Return a few of the runs it holds up, the oldest first."""
    if incident.kind != "run":
        return []
    statement = incidents.standing(incident).order_by(Run.id)  # type: ignore[arg-type]
    return list(session.execute(statement.limit(RUNS_SHOWN)).scalars())


def _evidence(session: Session, incident: Incident) -> dict[str, Any] | None:
    """Return what the last run sent and what came back."""
    run = session.get(Run, (incident.organization_id, incident.sample_id or ""))
    if run is None or run.incident_id != incident.id:
        return None
    statement = Step.of(incident.organization_id).where(
        Step.run_id == run.id,  # type: ignore[arg-type]
        Step.position == run.next_step,  # type: ignore[arg-type]
    )
    step = session.execute(statement).scalar_one_or_none()
    if step is None:
        return None
    return {"run": run, "step": step, "input": masking.show(step.input)}

"""Loading: claimed rows become runs in memory, with their recipe, event and earlier steps."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from sqlalchemy import select
from sqlmodel import Session, col

from connectors import error_paths, flow_documents, stepping
from connectors.engine.findings import EngineError
from connectors.flow_documents import Recipe
from connectors.keys import Key, among
from connectors.moving import Kin
from connectors.resting import looking
from connectors.seen import seen_as
from connectors.stepping import Moving, Note
from connectors.tables import FlowVersion, Step
from kernel.database import EVERY, reading
from kernel.errors import Problem
from webhooks.ready import ReadyEvent
from webhooks.tables import Event

_recipe_ids: dict[tuple[str, str, int], str] = {}


def load(rows: Sequence[Any]) -> list[Moving]:
    """Return the claimed runs ready to go on; three queries for a whole batch."""
    if not rows:
        return []
    with reading(EVERY) as session:
        recipes = _recipes(session, rows)
        events = _events(session, rows)
        steps = _steps(
            session,
            [
                row
                for row in rows
                if row.attempt_count or row.next_step or row.crash_count or row.lease_epoch > 1
            ],
        )
        found = [_moving(row, recipes, events, steps) for row in rows]
        for moving in found:
            looking.look(session, moving)
    return found


def load_born(born: Sequence[tuple[Mapping[str, Any], ReadyEvent]]) -> list[Moving]:
    """Return runs that were just routed; reads only recipes that nobody has read here before."""
    rows = [SimpleNamespace(**row) for row, _ in born]
    events = {(event.organization_id, event.id): event for _, event in born}
    recipes = _known_recipes(rows)
    if len(recipes) < len({_recipe_key(row) for row in rows}):
        with reading(EVERY) as session:
            recipes = _recipes(session, rows)
    return [_moving(row, recipes, events, {}) for row in rows]


def _moving(
    row: Any,
    recipes: dict[tuple[str, str, int], Recipe],
    events: dict[Key, Any],
    steps: dict[Key, dict[int, Note]],
) -> Moving:
    key = (row.organization_id, row.id)
    moving = Moving(
        organization_id=row.organization_id,
        id=row.id,
        flow_id=row.flow_id,
        event_id=row.event_id,
        replay_nonce=row.replay_nonce,
        effect_nonce=row.effect_nonce,
        lease_epoch=row.lease_epoch,
        recipe=recipes[row.organization_id, row.flow_id, row.flow_version],
        activation={},
        position=row.next_step,
        attempt_count=row.attempt_count,
        crash_count=row.crash_count,
        order_key=row.order_key,
        notes=steps.get(key, {}),
        kin=_kin(row),
    )
    moving.went_wrong = any(
        error_paths.WENT in (note.problem or ()) for note in moving.notes.values()
    )
    try:
        event = events[row.organization_id, row.event_id]
        handed = getattr(row, "called_with", None)
        seen = seen_as(event) if handed is None else _called_as(event, handed)
        moving.activation = stepping.start_activation(seen)
        stepping.restore(moving)
    except Problem as error:
        moving.stop("data", _UNREADABLE, error.plain()[:300])
    except EngineError as error:
        moving.stop("data", error.say)
    return moving


def _kin(row: Any) -> Kin:
    """Return how a run is related to others; what was just routed is to none."""
    return Kin(
        getattr(row, "parent_run_id", None),
        getattr(row, "parent_position", None),
        getattr(row, "depth", None) or 0,
        getattr(row, "environment", None) or "live",
    )


def _called_as(event: Any, handed: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a called flow sees as its event: what it was handed, at its caller's event."""
    return {
        "id": event.id,
        "type": "flow.called",
        "version": None,
        "subject": event.subject,
        "time": event.occurred_at.isoformat(),
        "source": "flow",
        "data": handed["data"],
    }


def _recipe_key(row: Any) -> tuple[str, str, int]:
    return row.organization_id, row.flow_id, row.flow_version


def _known_recipes(rows: Sequence[Any]) -> dict[tuple[str, str, int], Recipe]:
    found: dict[tuple[str, str, int], Recipe] = {}
    for key in {_recipe_key(row) for row in rows}:
        known = flow_documents.known_recipe(_recipe_ids.get(key, ""))
        if known is not None:
            found[key] = known
    return found


def _recipes(session: Session, rows: Sequence[Any]) -> dict[tuple[str, str, int], Recipe]:
    wanted = {_recipe_key(row) for row in rows}
    found = _known_recipes(rows)
    missing = sorted(wanted - set(found))
    if not missing:
        return found
    statement = select(FlowVersion).where(
        among(FlowVersion, [key[:2] for key in missing], col(FlowVersion.flow_id))
    )
    for version in session.execute(statement).scalars():
        key = (version.organization_id, version.flow_id, version.number)
        if len(_recipe_ids) > 10_000:
            _recipe_ids.clear()
        _recipe_ids[key] = version.id
        found[key] = flow_documents.recipe_of(version.id, version.document)
    return found


def _events(session: Session, rows: Sequence[Any]) -> dict[Key, Any]:
    wanted = sorted({(row.organization_id, row.event_id) for row in rows})
    statement = select(
        col(Event.organization_id),
        col(Event.id),
        col(Event.type),
        col(Event.version),
        col(Event.subject),
        col(Event.occurred_at),
        col(Event.origin),
        col(Event.body),
    ).where(among(Event, wanted))
    return {(row.organization_id, row.id): row for row in session.execute(statement)}


def _steps(session: Session, rows: Sequence[Any]) -> dict[Key, dict[int, Note]]:
    if not rows:
        return {}
    wanted = [(row.organization_id, row.id) for row in rows]
    statement = select(Step).where(among(Step, wanted, col(Step.run_id)))
    found: dict[Key, dict[int, Note]] = defaultdict(dict)
    for step in session.execute(statement).scalars():
        found[step.organization_id, step.run_id][step.position] = Note(
            id=step.id,
            position=step.position,
            key=step.key,
            kind=step.kind,
            state=step.state,
            attempt_count=step.attempt_count,
            input=step.input,
            output=step.output,
            problem=step.problem,
            edited_input=step.edited_input,
            effect_key=step.effect_key,
            started_at=step.started_at,
            finished_at=step.finished_at,
            elapsed_ms=step.elapsed_ms,
            status=step.status,
            keeps_key=bool(step.taken_from) and step.state != "succeeded",
            is_new=False,
            is_changed=False,
        )
    return found


_UNREADABLE = {
    "zh": "事件的内容读不出来，无法继续",
    "en": "The event's content cannot be read, so the run cannot go on",
}

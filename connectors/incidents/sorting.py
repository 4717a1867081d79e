"""Sorting: runs that stopped are put under the incident of their cause, many in one go."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import and_, func, select, text, update
from sqlmodel import Session, col

from connectors import flow_documents
from connectors.flow_paths import SPAN
from connectors.incidents import causes, incidents
from connectors.incidents.incidents import MOST_CODES, Trouble
from connectors.incidents.tables import INCIDENT
from connectors.keys import among
from connectors.tables import RUN, STEP, FlowVersion
from kernel.database import store_now

BATCH = 500
_REST = "*"  # the code of what has too many codes

# word for word as the partial indexes have them
UNSORTED = text("run.state = 'parked' AND run.incident_id IS NULL")
RETRYING = text(
    "run.state = 'waiting' AND run.attempt_count >= 3 AND run.cause IN ('down', 'limit')"
)

_NEW = (
    select(
        RUN.c.id, RUN.c.flow_id, RUN.c.flow_version, RUN.c.cause, RUN.c.say, RUN.c.detail,
        RUN.c.lane, RUN.c.next_step, RUN.c.finished_at, STEP.c.status,
    )
    .select_from(
        RUN.outerjoin(
            STEP,
            and_(
                STEP.c.organization_id == RUN.c.organization_id,
                STEP.c.run_id == RUN.c.id,
                STEP.c.position == RUN.c.next_step,
            ),
        )
    )
    .where(UNSORTED)
    .order_by(RUN.c.id)
    .limit(BATCH)
)  # fmt: skip


def sort_new(session: Session, organization_id: str) -> int:
    """Put the next runs that stopped under their incidents; returns how many those were."""
    rows = session.execute(_NEW.where(RUN.c.organization_id == organization_id)).all()
    if not rows:
        return 0
    troubles = _troubles(session, organization_id, rows)
    found = incidents.take_in(session, organization_id, list(troubles.values()))
    for trouble in troubles.values():
        incident = found[trouble.fingerprint]
        session.execute(
            update(RUN)
            .where(
                RUN.c.organization_id == organization_id,
                RUN.c.id.in_(trouble.run_ids),
                # said so that no partial index fits: before statistics are taken PostgreSQL
                # believes it to be empty, and would go through all of it for each of these
                func.coalesce(RUN.c.state, "") == "parked",
                func.coalesce(RUN.c.incident_id, "") == "",
            )
            .values(incident_id=incident.id)
        )
    return len(rows)


def _troubles(session: Session, organization_id: str, rows: Sequence[Any]) -> dict[str, Trouble]:
    recipes = _recipes(session, organization_id, rows)
    many = _codes(session, organization_id)
    now = store_now(session)
    found: dict[str, Trouble] = {}
    for row in rows:
        connector, action = _place(recipes, row)
        cause = row.cause or "config"
        code = causes.code_of(row.status, row.say, row.detail)
        codes = many[connector, action, cause]
        if code not in codes and len(codes) >= MOST_CODES:
            code = _REST
        codes.add(code)
        one = Trouble(
            "run", cause, code, connector, action,
            connection_id=row.lane if connector else None, say=row.say, sample_id=row.id,
        )  # fmt: skip
        one = found.setdefault(one.fingerprint, one)
        one.run_ids.append(row.id)
        one.flow_ids.add(row.flow_id)
        one.add(row.finished_at or now)
    return found


def _codes(session: Session, organization_id: str) -> dict[tuple[Any, ...], set[str]]:
    """Return the codes that are known of each action and cause."""
    wanted = select(
        INCIDENT.c.connector_key, INCIDENT.c.action_key, INCIDENT.c.cause, INCIDENT.c.code
    ).where(INCIDENT.c.organization_id == organization_id, INCIDENT.c.kind == "run")
    found: dict[tuple[Any, ...], set[str]] = defaultdict(set)
    for connector, action, cause, code in session.execute(wanted.limit(2_000)):
        found[connector, action, cause].add(code)
    return found


def _place(recipes: dict[tuple[str, int], Any], row: Any) -> tuple[str | None, str | None]:
    """Return the connector and action a run stopped at; none for a step that calls no app."""
    recipe = recipes.get((row.flow_id, row.flow_version))
    if recipe is None or row.next_step % SPAN >= len(recipe.steps):
        return None, None
    step = recipe.step_at(row.next_step)
    return step.connector, step.action


def _recipes(
    session: Session, organization_id: str, rows: Sequence[Any]
) -> dict[tuple[str, int], Any]:
    wanted = {(row.flow_id, row.flow_version) for row in rows}
    flows = sorted({(organization_id, flow_id) for flow_id, _ in wanted})
    statement = select(FlowVersion).where(
        among(FlowVersion, flows, col(FlowVersion.flow_id)),
        col(FlowVersion.number).in_(sorted({number for _, number in wanted})),
    )
    return {
        (one.flow_id, one.number): flow_documents.recipe_of(one.id, one.document)
        for one in session.execute(statement).scalars()
    }


def skip_through(session: Session, table: Any, which: Any, after: str, most: int) -> list[str]:
    """Name the organizations with such rows, one short look into the index for each."""
    found: list[str] = []
    while len(found) < most:
        last = found[-1] if found else after
        wanted = select(func.min(table.c.organization_id)).where(
            which, table.c.organization_id > last
        )
        name = session.execute(wanted).scalar_one()
        if name is None:
            break
        found.append(name)
    return found

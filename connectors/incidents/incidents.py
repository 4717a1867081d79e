"""Incidents: opened and closed by what is found, looked at, given to somebody.

An incident is a cause. It opens with the first thing it stops, closes when nothing is held up by it
any more, and opens again under the same id. Both are told once each time, as events.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, func, select, text
from sqlmodel import Session, col

from connectors.errors import NotNow, Unfit, finding
from connectors.incidents import causes
from connectors.incidents.tables import INCIDENT, ROUND, Incident, IncidentRound
from connectors.tables import RUN, Run
from identity import members
from kernel import clock, ids, outbox, tenancy
from kernel.database import store_now
from kernel.errors import N_
from kernel.rows import insert_ignore

SHOWN_FLOWS = 12
TALLY_HOURS = 48
TRIES_KEPT = 12
MAX_NOTE = 2_000
MOST_CODES = 20  # of one action and cause; what is beyond them is put together


@dataclass(slots=True)
class Trouble:
    """What was found of one cause since the last look."""

    kind: str
    cause: str
    code: str = ""
    connector_key: str | None = None
    action_key: str | None = None
    connection_id: str | None = None
    endpoint_id: str | None = None
    source_id: str | None = None
    say: Mapping[str, Any] | None = None
    sample_id: str | None = None
    flow_ids: set[str] = field(default_factory=set)
    run_ids: list[str] = field(default_factory=list)
    hours: Counter[str] = field(default_factory=Counter)
    last_at: datetime | None = None
    counted: int = 0

    @property
    def fingerprint(self) -> str:
        """Return what this trouble is known by."""
        return causes.fingerprint(
            self.kind, self.cause, self.connector_key, self.action_key, self.connection_id,
            self.endpoint_id, self.source_id, self.code,
        )  # fmt: skip

    def add(self, at: datetime, count: int = 1) -> None:
        """Count failures of one moment."""
        self.hours[hour_of(at)] += count
        self.last_at = max(at, self.last_at or at)


def hour_of(at: datetime) -> str:
    """Name an hour in the tally."""
    return at.strftime("%Y-%m-%dT%H")


# --- opened and closed by what is found -----------------------------------------------------------


def take_in(
    session: Session, organization_id: str, found: Sequence[Trouble]
) -> dict[str, Incident]:
    """Count troubles under their incidents, opening those that are new or were over.

    Returns the incidents by fingerprint.
    """
    wanted = {one.fingerprint: one for one in found}
    known = {
        one.fingerprint: one
        for one in session.execute(
            Incident.of(organization_id).where(col(Incident.fingerprint).in_(list(wanted)))
        ).scalars()
    }
    now = store_now(session)
    for fingerprint, trouble in wanted.items():
        incident = known.get(fingerprint)
        is_opened = incident is None or incident.state == "closed"
        if incident is None:
            incident = known[fingerprint] = _new(organization_id, trouble, now)
        elif is_opened:
            incident.state, incident.opened_at, incident.closed_at = "open", now, None
            incident.closed_by, incident.opened_count = None, incident.opened_count + 1
            incident.stuck_count = 0
        _count(incident, trouble, now)
        session.add(incident)
        session.flush()
        if is_opened:
            _tell(session, "incident.opened", incident)
    return known


def _new(organization_id: str, trouble: Trouble, now: datetime) -> Incident:
    return Incident(
        organization_id=organization_id,
        id=ids.new_id("inc"),
        kind=trouble.kind,
        fingerprint=trouble.fingerprint,
        cause=trouble.cause,
        code=trouble.code,
        connector_key=trouble.connector_key,
        action_key=trouble.action_key,
        connection_id=trouble.connection_id,
        endpoint_id=trouble.endpoint_id,
        source_id=trouble.source_id,
        opened_at=now,
        last_at=trouble.last_at or now,
    )


def _count(incident: Incident, trouble: Trouble, now: datetime) -> None:
    number = sum(trouble.hours.values())
    incident.total_count += number
    incident.stuck_count += number
    incident.last_at = max(incident.last_at, trouble.last_at or incident.last_at)
    incident.say = dict(trouble.say) if trouble.say else incident.say
    incident.sample_id = trouble.sample_id or incident.sample_id
    flows = list(dict.fromkeys([*incident.flow_ids, *sorted(trouble.flow_ids)]))
    incident.flow_ids = flows[:SHOWN_FLOWS]
    oldest = hour_of(now - timedelta(hours=TALLY_HOURS))
    tally = Counter(incident.tally) + trouble.hours
    incident.tally = {hour: tally[hour] for hour in sorted(tally) if hour >= oldest}
    incident.next_at = now


def settle(
    session: Session, incident: Incident, stuck: int, *, closed_by: str | None = None
) -> None:
    """Write down how much an incident holds up now; with nothing left it is over."""
    incident.stuck_count = stuck
    if incident.state == "open" and stuck == 0:
        incident.state, incident.closed_at = "closed", store_now(session)
        incident.closed_by, incident.next_at = closed_by, None
        session.add(incident)
        session.flush()
        _tell(session, "incident.closed", incident)
    session.add(incident)


def _tell(session: Session, news: str, incident: Incident) -> None:
    data = {
        "incident_id": incident.id,
        "kind": incident.kind,
        "cause": incident.cause,
        "connector": incident.connector_key,
        "action": incident.action_key,
        "code": causes.shown(incident.code),
        "who_acts": causes.actor_of(incident.kind, incident.cause),
        "sentence": (incident.say or {}).get("zh"),
        "times_opened": str(incident.opened_count),
        "count": str(incident.total_count),
        "closed_by": incident.closed_by,
        "path": f"/recovery/{incident.id}",
    }
    subject = f"{incident.id}/{incident.opened_count}"
    outbox.emit(session, incident.organization_id, news, data, subject)


def ask_round(session: Session, organization_ids: Iterable[str]) -> None:
    """See to it that these organizations' trouble is looked at now."""
    now = store_now(session)
    for organization_id in sorted(set(organization_ids)):
        row = {
            "organization_id": organization_id, "id": organization_id, "created_at": now,
            "next_at": now, "looked_at": None,
        }  # fmt: skip
        if not insert_ignore(session, IncidentRound, [row], ("organization_id", "id")):
            sooner = ROUND.c.next_at.is_(None) | (ROUND.c.next_at > now)
            session.execute(
                ROUND.update()
                .where(ROUND.c.organization_id == organization_id, sooner)
                .values(next_at=now)
            )


def recount_soon(session: Session, incident: Incident) -> None:
    """Count an incident's runs anew at once, because somebody did something about it."""
    incident.next_at = store_now(session)
    session.add(incident)
    ask_round(session, [incident.organization_id])


# --- looks ----------------------------------------------------------------------------------------


def find(session: Session, organization_id: str, incident_id: str) -> Incident:
    """Return the organization's incident; a stranger's is NotFound."""
    return tenancy.find(session, Incident, organization_id, incident_id)


def locked(session: Session, organization_id: str, incident_id: str) -> Incident:
    """Return the incident, held until the commit; a stranger's is NotFound."""
    incident = find(session, organization_id, incident_id)
    session.flush()  # what was changed on it before is no longer forgotten
    session.refresh(incident, with_for_update=True)
    return incident


def select_all(
    organization_id: str,
    state: str | None = None,
    kind: str | None = None,
    assignee_id: str | None = None,
) -> Select[Any]:
    """Select an organization's incidents; pages order them."""
    statement = Incident.of(organization_id)
    for column, wanted in (("state", state), ("kind", kind), ("assignee_id", assignee_id)):
        if wanted:
            statement = statement.where(INCIDENT.c[column] == wanted)
    return statement


def counts(session: Session, organization_id: str) -> dict[str, int]:
    """Count the organization's incidents by state."""
    statement = select(INCIDENT.c.state, func.count()).where(
        INCIDENT.c.organization_id == organization_id
    )
    return {row[0]: int(row[1]) for row in session.execute(statement.group_by(INCIDENT.c.state))}


def count_open(session: Session, organization_id: str) -> int:
    """Count the troubles that somebody has to end."""
    statement = select(func.count()).where(
        INCIDENT.c.organization_id == organization_id,
        INCIDENT.c.state == "open",
        INCIDENT.c.kind != "retry",
    )
    return int(session.execute(statement).scalar_one())


def stuck_by_flow(session: Session, incident: Incident) -> list[tuple[str, int]]:
    """Return how many runs of each flow an incident holds up, the most first."""
    number = func.count().label("number")
    statement = (
        select(RUN.c.flow_id, number)
        .where(_of(incident))
        .group_by(RUN.c.flow_id)
        .order_by(number.desc())
        .limit(SHOWN_FLOWS)
    )
    return [(row[0], int(row[1])) for row in session.execute(statement)]


def count_stuck(session: Session, incident: Incident) -> int:
    """Count the runs that an incident holds up."""
    return int(session.execute(select(func.count()).where(_of(incident))).scalar_one())


def standing(incident: Incident) -> Select[Any]:
    """Select the runs that an incident holds up."""
    return Run.of(incident.organization_id).where(_of(incident))


def _of(incident: Incident) -> Any:
    return (
        (RUN.c.organization_id == incident.organization_id)
        & (RUN.c.incident_id == incident.id)
        & text("run.state = 'parked'")  # word for word as the partial index has it
    )


@dataclass(frozen=True)
class Bar:
    """The failures of one hour, for a plot."""

    hour: str
    count: int
    height: float  # of 40


def plot(incident: Incident) -> list[Bar]:
    """Return the last two days hour by hour, the oldest first."""
    now, peak = clock.now(), max([1, *incident.tally.values()])
    hours = [hour_of(now - timedelta(hours=back)) for back in range(TALLY_HOURS - 1, -1, -1)]
    return [
        Bar(hour, count, round(max(2.0, 38 * count / peak), 1) if count else 0.0)
        for hour in hours
        for count in (incident.tally.get(hour, 0),)
    ]


# --- people ---------------------------------------------------------------------------------------


def assign(session: Session, organization_id: str, incident_id: str, member_id: str) -> Incident:
    """Give an incident to a member, or with "" to nobody."""
    incident = locked(session, organization_id, incident_id)
    seat = members.find_seat(session, organization_id, member_id) if member_id else None
    incident.assignee_id = seat.id if seat else None
    incident.assignee_name = seat.name if seat else None
    session.add(incident)
    return incident


def write_note(session: Session, organization_id: str, incident_id: str, note: str) -> Incident:
    """Keep what people want to remember of an incident."""
    note = note.replace("\0", "").strip()
    if len(note) > MAX_NOTE:
        raise Unfit([finding("/note", f"最多 {MAX_NOTE} 个字", f"At most {MAX_NOTE} characters")])
    incident = locked(session, organization_id, incident_id)
    incident.note = note
    session.add(incident)
    return incident


def remember(incident: Incident, by: str, what: str, count: int, outcome: str = "") -> None:
    """Note on an incident what somebody tried."""
    one = {"at": clock.now().isoformat(), "by": by, "what": what, "count": count,
           "outcome": outcome}  # fmt: skip
    incident.tried = [one, *incident.tried][:TRIES_KEPT]


def mark_done(session: Session, organization_id: str, incident_id: str, by: str) -> Incident:
    """Close a trouble at a source by hand: what was turned away before counts no more.

    What holds runs or deliveries up is over when those are; it cannot be talked away.
    """
    incident = locked(session, organization_id, incident_id)
    if incident.state == "closed":
        raise NotNow(N_("This trouble is over already"))
    if incident.kind != "refusal":
        raise NotNow(
            N_("Something still waits because of this"),
            N_("Repeat what waits or give it up; the trouble is then over by itself."),
        )
    incident.counted += incident.stuck_count
    remember(incident, by, "done", incident.stuck_count)
    settle(session, incident, 0, closed_by=by)
    return incident

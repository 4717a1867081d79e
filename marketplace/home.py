"""The first page: the shop's front for visitors, what needs me and what happened for members."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from typing import Any

from sqlalchemy import func, select
from sqlmodel import Session, col

from catalog.tables import Bundle, Listing, Release, Vendor
from connectors import approvals
from connectors.engine import loader
from connectors.health import expiries
from connectors.judges import judge_of
from connectors.tables import Connection, Flow, Run
from identity.principals import Principal
from identity.tables import Invitation
from kernel import clock
from marketplace.tables import FINISHED, Installation, Rollout
from webhooks import events
from webhooks.tables import Delivery, Event

RECENT = 6
ENOUGH_INSTALLS = 5  # fewer do not make a median worth showing
# The first ten characters of an id's tail count milliseconds in base 32; six of them make a
# bucket of 2^20 ms, which every database can group by without knowing about time zones.
_BUCKET_CHARACTERS = 6
_BUCKET_MS = 1 << 20
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


# --- visitors ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ShopFigures:
    """What the shop can truly say about itself."""

    app_count: int
    bundle_count: int
    connector_count: int
    median_install_seconds: float | None


def shop_figures(session: Session) -> ShopFigures:
    """Count what is on the shelves; nothing here is a promise."""
    return ShopFigures(
        app_count=_count(session, Listing, col(Listing.state) == "published"),
        bundle_count=_count(session, Bundle),
        connector_count=len(loader.library()),
        median_install_seconds=_median_install_seconds(session),
    )


def _median_install_seconds(session: Session) -> float | None:
    rows = session.execute(
        select(col(Rollout.started_at), col(Rollout.finished_at))
        .where(col(Rollout.direction) == "install", col(Rollout.state) == "active")
        .order_by(col(Rollout.id).desc())
        .limit(200)
    )
    seconds = [(end - start).total_seconds() for start, end in rows if start and end]
    return round(median(seconds), 1) if len(seconds) >= ENOUGH_INSTALLS else None


def front_bundles(session: Session, limit: int = 6) -> list[Bundle]:
    """Return the bundles that the shop front shows, the ones to try at once first."""
    statement = select(Bundle).order_by(
        col(Bundle.is_demo).desc(), col(Bundle.is_base), col(Bundle.position), col(Bundle.key)
    )
    return list(session.execute(statement.limit(limit)).scalars())


def _count(session: Session, table: Any, *conditions: Any) -> int:
    statement = select(func.count()).select_from(table).where(*conditions)
    return int(session.execute(statement).scalar_one())


# --- members: what needs me -----------------------------------------------------------------


@dataclass(frozen=True)
class Need:
    """Something that waits for this person; `one` and `many` are message ids with %(num)d in."""

    one: str
    many: str
    count: int
    href: str
    icon: str
    tone: str


def lazy_ngettext(one: str, many: str) -> tuple[str, str]:
    """Mark both forms of a text for translation; the page chooses when it knows the number."""
    return one, many


@dataclass(frozen=True)
class _Look:
    permission: str
    count: Callable[[Session, Principal], int]
    words: tuple[str, str]
    href: str
    icon: str
    tone: str = "warn"


def _parked_runs(session: Session, who: Principal) -> int:
    mine = col(Run.organization_id) == who.organization_id
    return _count(session, Run, mine, col(Run.state) == "parked")


def _stuck_deliveries(session: Session, who: Principal) -> int:
    mine = col(Delivery.organization_id) == who.organization_id
    return _count(session, Delivery, mine, col(Delivery.state) == "parked")


def _bad_events(session: Session, who: Principal) -> int:
    mine = col(Event.organization_id) == who.organization_id
    return _count(session, Event, mine, col(Event.state).in_(("rejected", "quarantined")))


def _troubled_connections(session: Session, who: Principal) -> int:
    mine = col(Connection.organization_id) == who.organization_id
    return _count(session, Connection, mine, col(Connection.state) == "needs_attention")


def _ending_connections(session: Session, who: Principal) -> int:
    until = clock.now() + timedelta(days=expiries.WARN_DAYS[0])
    return _count(
        session,
        Connection,
        col(Connection.organization_id) == who.organization_id,
        col(Connection.state) == "ready",
        col(Connection.ends_at) <= until,
    )


def _open_invitations(session: Session, who: Principal) -> int:
    return _count(
        session,
        Invitation,
        col(Invitation.organization_id) == who.organization_id,
        col(Invitation.accepted_at).is_(None),
        col(Invitation.revoked_at).is_(None),
        col(Invitation.expires_at) > clock.now(),
    )


def _open_rollouts(session: Session, who: Principal) -> int:
    mine = col(Rollout.organization_id) == who.organization_id
    return _count(session, Rollout, mine, col(Rollout.state).not_in(FINISHED))


def _releases_to_review(session: Session, _who: Principal) -> int:
    return _count(session, Release, col(Release.state) == "in_review")


def _vendors_to_admit(session: Session, _who: Principal) -> int:
    return _count(session, Vendor, col(Vendor.state) == "applied")


def _asked(session: Session, who: Principal) -> int:
    return len(approvals.open_for(session, who.organization_id, judge_of(who)))


_LOOKS = (
    _Look(
        "approvals:decide",
        _asked,
        lazy_ngettext(
            "%(num)d flow asks for your decision",
            "%(num)d flows ask for your decision",
        ),
        "/approvals",
        "checklist",
        "wait",
    ),
    _Look(
        "runs:read",
        _parked_runs,
        lazy_ngettext(
            "%(num)d run stopped and waits for a repair",
            "%(num)d runs stopped and wait for a repair",
        ),
        "/recovery",
        "alert-triangle",
        "bad",
    ),
    _Look(
        "connections:read",
        _troubled_connections,
        lazy_ngettext(
            "%(num)d connection must be connected again",
            "%(num)d connections must be connected again",
        ),
        "/connections",
        "plug-connected-x",
        "bad",
    ),
    _Look(
        "connections:read",
        _ending_connections,
        lazy_ngettext(
            "%(num)d connection ends within two weeks and needs you",
            "%(num)d connections end within two weeks and need you",
        ),
        "/connections/expiring",
        "calendar-event",
    ),
    _Look(
        "deliveries:read",
        _stuck_deliveries,
        lazy_ngettext(
            "%(num)d delivery was given up",
            "%(num)d deliveries were given up",
        ),
        "/endpoints",
        "send",
        "bad",
    ),
    _Look(
        "events:read",
        _bad_events,
        lazy_ngettext(
            "%(num)d event came in but does not fit its description",
            "%(num)d events came in but do not fit their description",
        ),
        "/events?state=rejected",
        "inbox",
    ),
    _Look(
        "apps:install",
        _open_rollouts,
        lazy_ngettext(
            "%(num)d installation is under way",
            "%(num)d installations are under way",
        ),
        "/installations",
        "loader-2",
        "busy",
    ),
    _Look(
        "members:write",
        _open_invitations,
        lazy_ngettext(
            "%(num)d invitation has not been accepted yet",
            "%(num)d invitations have not been accepted yet",
        ),
        "/settings/members",
        "user-plus",
        "wait",
    ),
    _Look(
        "releases:review",
        _releases_to_review,
        lazy_ngettext(
            "%(num)d release waits for your review",
            "%(num)d releases wait for your review",
        ),
        "/operator/review",
        "clipboard-check",
        "wait",
    ),
    _Look(
        "vendors:review",
        _vendors_to_admit,
        lazy_ngettext(
            "%(num)d vendor asks to be admitted",
            "%(num)d vendors ask to be admitted",
        ),
        "/operator/vendors",
        "building-store",
        "wait",
    ),
)


def needs(session: Session, who: Principal) -> list[Need]:
    """Return what waits for this person, only what they may see, worst first."""
    found = []
    for look in _LOOKS:
        if not who.may(look.permission):
            continue
        count = look.count(session, who)
        if count:
            found.append(Need(*look.words, count, look.href, look.icon, look.tone))
    return found


# --- members: what happened -----------------------------------------------------------------


def recent_events(session: Session, organization_id: str) -> list[Event]:
    """Return the last few events."""
    statement = events.listing(organization_id).order_by(col(Event.id).desc()).limit(RECENT)
    return list(session.execute(statement).scalars())


def recent_runs(session: Session, organization_id: str) -> list[Run]:
    """Return the last few runs."""
    statement = Run.of(organization_id).order_by(col(Run.id).desc()).limit(RECENT)
    return list(session.execute(statement).scalars())


def flow_names(session: Session, organization_id: str) -> dict[str, str]:
    """Return what the organization's flows are called."""
    rows = session.execute(
        select(col(Flow.id), col(Flow.name)).where(col(Flow.organization_id) == organization_id)
    )
    return {row[0]: row[1] for row in rows}


@dataclass(frozen=True)
class Throughput:
    """How many events came in, in equal stretches of time, oldest first."""

    counts: tuple[int, ...]
    bucket_minutes: int

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.counts)

    @property
    def peak(self) -> int:
        """The busiest stretch."""
        return max(self.counts, default=0)


def throughput(
    session: Session, organization_id: str, *, hours: int = 24, now: datetime | None = None
) -> Throughput:
    """Count the events of the last hours by the time inside their ids."""
    now = now or clock.now()
    last = _bucket(now)
    first = _bucket(now - timedelta(hours=hours))
    prefix = len("evt_") + _BUCKET_CHARACTERS
    stretch = func.substr(col(Event.id), 1, prefix)
    rows = session.execute(
        select(stretch, func.count())
        .where(
            col(Event.organization_id) == organization_id,
            col(Event.id) >= "evt_" + _encode(first),
        )
        .group_by(stretch)
    )
    found: dict[str, int] = {row[0]: row[1] for row in rows}
    keys = ["evt_" + _encode(bucket) for bucket in range(first, last + 1)]
    return Throughput(tuple(found.get(key, 0) for key in keys), round(_BUCKET_MS / 60_000))


def _bucket(moment: datetime) -> int:
    return int(moment.timestamp() * 1000) // _BUCKET_MS


def _encode(bucket: int) -> str:
    characters = []
    for _ in range(_BUCKET_CHARACTERS):
        characters.append(_ALPHABET[bucket & 31])
        bucket >>= 5
    return "".join(reversed(characters))


# --- members: first steps -----------------------------------------------------------------


@dataclass(frozen=True)
class FirstSteps:
    """How far a new organization has come."""

    has_chosen: bool
    has_installed: bool
    has_run: bool

    @property
    def is_over(self) -> bool:
        """Tell whether the list has done its work."""
        return self.has_installed and self.has_run


def first_steps(session: Session, organization_id: str) -> FirstSteps:
    """Return which of the first steps are done."""

    def is_any(table: Any, *conditions: Any) -> bool:
        mine = table.organization_id == organization_id
        return (
            session.execute(select(table.id).where(mine, *conditions).limit(1)).first() is not None
        )

    has_installed = is_any(Installation, col(Installation.state) == "active")
    return FirstSteps(
        has_chosen=has_installed or is_any(Rollout),
        has_installed=has_installed,
        has_run=is_any(Run, col(Run.state) == "succeeded"),
    )

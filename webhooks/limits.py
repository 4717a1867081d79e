"""Limits: what the quotas are, for an organization by its operator, for a source by its owner."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete
from sqlmodel import Session

from kernel.errors import N_, FieldError, Invalid
from kernel.settings import settings
from webhooks import sources
from webhooks.tables import QUOTA, Quota

NAMES = ("per_minute", "burst", "per_day", "backlog")
MOST = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """What holds for an organization or a source."""

    per_minute: int
    burst: int
    per_day: int
    backlog: int


def of_organization(row: Any) -> Limits:
    """Return an organization's limits: the operator's numbers, else those of the settings."""
    chosen = settings()
    return Limits(
        per_minute=_or(row, "per_minute", chosen.quota_per_minute),
        burst=_or(row, "burst", chosen.quota_burst),
        per_day=_or(row, "per_day", chosen.quota_per_day),
        backlog=_or(row, "backlog", chosen.backlog_limit),
    )


def of_source(row: Any, above: Limits) -> Limits:
    """Return a source's limits: its owner's numbers, never more than the organization's.

    Who may send so many in a minute may send them at once.
    """
    per_minute = min(_or(row, "per_minute", above.per_minute), above.per_minute)
    is_own = getattr(row, "per_minute", None) is not None
    return Limits(
        per_minute=per_minute,
        burst=min(per_minute, above.burst) if is_own else above.burst,
        per_day=min(_or(row, "per_day", above.per_day), above.per_day),
        backlog=above.backlog,
    )


def _or(row: Any, name: str, default: int) -> int:
    found = getattr(row, name, None)
    return default if found is None else int(found)


def find(session: Session, organization_id: str) -> Limits:
    """Return an organization's limits."""
    return of_organization(session.get(Quota, (organization_id, organization_id)))


def find_of_source(session: Session, organization_id: str, source_id: str) -> Limits:
    """Return a source's limits."""
    own = session.get(Quota, (organization_id, source_id))
    return of_source(own, find(session, organization_id))


def own_numbers(session: Session, organization_id: str, place: str) -> dict[str, int | None]:
    """Return what was chosen for an organization (`place` is its id) or one of its sources."""
    row = session.get(Quota, (organization_id, place))
    return {name: getattr(row, name, None) for name in NAMES}


def set_for_organization(
    session: Session, organization_id: str, numbers: Mapping[str, int | None]
) -> Limits:
    """Set an organization's numbers (the operator's right); None goes back to the settings."""
    _refuse(_wrong(numbers))
    _put(session, organization_id, organization_id, numbers)
    return find(session, organization_id)


def set_for_source(
    session: Session, organization_id: str, source_id: str, numbers: Mapping[str, int | None]
) -> Limits:
    """Set a source's numbers (its owner's right), none above the organization's.

    Raises NotFound for a source of somebody else's, Invalid for a number that is too high.
    """
    sources.get(session, organization_id, source_id)
    above = find(session, organization_id)
    kept = {name: numbers.get(name) for name in ("per_minute", "per_day")}
    wrong = _wrong(kept)
    for name, number in kept.items():
        if number is not None and number > getattr(above, name):
            message = N_("This is more than your organization may send; choose less")
            wrong.append({"pointer": f"/{name}", "message": message})
    _refuse(wrong)
    _put(session, organization_id, source_id, kept)
    return find_of_source(session, organization_id, source_id)


def _wrong(numbers: Mapping[str, int | None]) -> list[FieldError]:
    message = N_("Use a whole number from 1 to 1,000,000,000, or leave it empty")
    return [
        {"pointer": f"/{name}", "message": message}
        for name, number in numbers.items()
        if number is not None and not 1 <= number <= MOST
    ]


def _refuse(errors: list[FieldError]) -> None:
    if errors:
        raise Invalid(errors=errors)


def _put(
    session: Session, organization_id: str, place: str, numbers: Mapping[str, int | None]
) -> None:
    if all(number is None for number in numbers.values()):
        session.execute(
            delete(QUOTA).where(QUOTA.c.organization_id == organization_id, QUOTA.c.id == place)
        )
        return
    row = session.get(Quota, (organization_id, place))
    if row is None:
        row = Quota(organization_id=organization_id, id=place)
    for name, number in numbers.items():
        setattr(row, name, number)
    session.add(row)
    session.flush()

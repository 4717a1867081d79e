"""Rules: how long events and what hangs on them are kept, by event type."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete
from sqlmodel import Session

from identity import audit
from kernel import tenancy
from kernel.database import store_now
from kernel.errors import N_, FieldError, Invalid
from kernel.ids import new_id
from webhooks.keeping.tables import KEEPING, RETENTION_RULE, Keeping, RetentionRule

ALL = "*"
MOST_RULES = 50
SHORTEST, LONGEST = 1, 3650
# A dedupe key is remembered at least so long, however short the rule is.
KEYS_KEPT = timedelta(days=35)
# What waits for a person is never taken away sooner.
PARKED_KEPT = timedelta(days=90)
_TOO_MANY = N_("There may be fifty rules; remove one first")
_BOUNDS = N_("Use a whole number of days from 1 to 3,650")
_BOUNDS_OR_NONE = N_("Use a whole number of days from 0 to 3,650; 0 means: do not archive")
_PATTERN = N_("Write an event type such as order.paid, a group such as order.*, or *")


audit.name_actions(
    {
        "retention.changed": N_("changed how long data is kept"),
        "retention.removed": N_("removed a rule on how long data is kept"),
    }
)


@dataclass(frozen=True, slots=True)
class Rule:
    """What holds for some event types; `detail_days` holds for all and stands in the one of `*`."""

    event_types: str = ALL
    live_days: int = 90
    rejected_days: int = 30
    archive_days: int = 730
    detail_days: int = 30
    id: str | None = None  # None: nobody has decided, the house's own numbers hold

    def days_of(self, state: str) -> int:
        """Return how many days an event in that state stays in the live list."""
        return self.rejected_days if state == "rejected" else self.live_days


DEFAULT = Rule()


def _closeness(rule: Rule) -> tuple[bool, int]:
    """Sort single types before groups, and long groups before short ones."""
    return rule.event_types.endswith("*"), -len(rule.event_types)


class Rules:
    """An organization's rules, the closest first."""

    def __init__(self, found: Iterable[Rule]) -> None:
        """Sort them; the house's own numbers stand in for a missing `*`."""
        known = {rule.event_types: rule for rule in found}
        self.general = known.pop(ALL, DEFAULT)
        self.special = sorted(known.values(), key=_closeness)

    def of_type(self, event_type: str) -> Rule:
        """Return the rule for a type: its own, else the longest group's, else the general one."""
        for rule in self.special:
            pattern = rule.event_types
            if pattern == event_type:
                return rule
            if pattern.endswith(".*") and event_type.startswith(pattern[:-1]):
                return rule
        return self.general

    def of_pattern(self, event_types: str) -> Rule:
        """Return the rule with exactly this pattern, else the one that holds in its stead."""
        for rule in self.special:
            if rule.event_types == event_types:
                return rule
        return self.of_type(event_types.removesuffix(".*"))

    @property
    def all(self) -> Sequence[Rule]:
        """List them, the general one first."""
        return [self.general, *sorted(self.special, key=lambda rule: rule.event_types)]

    def shortest_days(self) -> int:
        """Return the least number of days that any event stays."""
        return min(min(rule.live_days, rule.rejected_days) for rule in self.all)


def find(session: Session, organization_id: str) -> Rules:
    """Return an organization's rules."""
    rows = session.execute(RetentionRule.of(organization_id)).scalars()
    return Rules(_rule(row) for row in rows)


def _rule(row: RetentionRule) -> Rule:
    return Rule(
        row.event_types,
        row.live_days,
        row.rejected_days,
        row.archive_days,
        DEFAULT.detail_days if row.detail_days is None else row.detail_days,
        row.id,
    )


def decide(session: Session, organization_id: str, rule: Rule) -> Rule:
    """Set the rule for a pattern, a new one or in the place of the old; raises Invalid."""
    _check(rule)
    found = session.execute(
        RetentionRule.of(organization_id).where(RETENTION_RULE.c.event_types == rule.event_types)
    ).scalar_one_or_none()
    if found is None:
        _check_room(session, organization_id)
        found = RetentionRule(
            organization_id=organization_id,
            id=new_id("rtr"),
            event_types=rule.event_types,
            live_days=0,
            rejected_days=0,
            archive_days=0,
        )
    found.live_days, found.rejected_days = rule.live_days, rule.rejected_days
    found.archive_days = rule.archive_days
    found.detail_days = rule.detail_days if rule.event_types == ALL else None
    session.add(found)
    session.flush()
    look_again(session, organization_id)
    return _rule(found)


def _check_room(session: Session, organization_id: str) -> None:
    rows = session.execute(RetentionRule.of(organization_id).limit(MOST_RULES)).scalars().all()
    if len(rows) >= MOST_RULES:
        raise Invalid(errors=[{"pointer": "/event_types", "message": _TOO_MANY}])


def _check(rule: Rule) -> None:
    errors: list[FieldError] = []
    if not is_pattern(rule.event_types):
        errors.append({"pointer": "/event_types", "message": _PATTERN})
    errors += [
        {"pointer": f"/{name}", "message": _BOUNDS}
        for name in ("live_days", "rejected_days", "detail_days")
        if not SHORTEST <= getattr(rule, name) <= LONGEST
    ]
    if not 0 <= rule.archive_days <= LONGEST:
        errors.append({"pointer": "/archive_days", "message": _BOUNDS_OR_NONE})
    if errors:
        raise Invalid(errors=errors)


def is_pattern(text: str) -> bool:
    """Tell whether a text names event types: `order.paid`, `order.*` or `*`."""
    name = text.removesuffix(".*")
    plain = name.replace("_", "").replace("-", "").replace(".", "").replace("/", "")
    return text == ALL or (
        0 < len(text) <= 200 and plain.isascii() and plain.replace(":", "").isalnum()
    )


def told(rule: Rule) -> dict[str, str | int]:
    """Return what the audit trail says of a rule."""
    names = ("event_types", "live_days", "rejected_days", "archive_days", "detail_days")
    return {name: getattr(rule, name) for name in names}


def remove(session: Session, organization_id: str, rule_id: str) -> Rule:
    """Take a rule away; the next closest one holds from now on."""
    row = tenancy.find(session, RetentionRule, organization_id, rule_id)
    rule = _rule(row)
    session.execute(
        delete(RETENTION_RULE).where(
            RETENTION_RULE.c.organization_id == organization_id, RETENTION_RULE.c.id == rule_id
        )
    )
    look_again(session, organization_id)
    return rule


def look_again(session: Session, organization_id: str) -> None:
    """Let the keeping of an organization's data begin as soon as somebody is free to do it."""
    row = session.get(Keeping, (organization_id, organization_id))
    now = store_now(session)
    if row is None:
        session.add(Keeping(organization_id=organization_id, id=organization_id, next_at=now))
        session.flush()
        return
    session.execute(
        KEEPING.update()
        .where(KEEPING.c.organization_id == organization_id, KEEPING.c.id == organization_id)
        .values(next_at=now)
    )


def horizon(session: Session, days: int) -> datetime:
    """Return the moment so many days ago, by the store's clock."""
    return store_now(session) - timedelta(days=days)

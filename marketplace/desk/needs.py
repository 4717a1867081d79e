"""Needs: what the hub needs of its operator just now, worst first, each with what to do."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from kernel.errors import N_
from marketplace.desk.counts import LATE_SECONDS, MOST, Counts
from marketplace.desk.health import Health

DISK_FULL_PERCENT, DISK_FREE_BYTES = 90, 500 << 20
CONNECTIONS_PERCENT = 80
_ORDER = {"bad": 0, "warn": 1}


@dataclass(frozen=True, slots=True)
class Need:
    """Something only the operator can do; `says` and `todo` are message ids, `params` fill both."""

    code: str
    tone: str  # bad: something is not done or may be lost | warn: it will come to that
    says: str
    todo: str
    params: dict[str, Any] = field(default_factory=dict)

    def plain(self) -> str:
        """Return the English words, for the command line."""
        text = f"{self.says} {self.todo}"
        return text % self.params if self.params else text


def of(health: Health) -> list[Need]:
    """Return what a hub in this state needs, worst first."""
    found = [*_store(health), *_machines(health), *_processes(health)]
    if health.counts is not None:
        found += _work(health, health.counts)
    return sorted(found, key=lambda need: _ORDER[need.tone])


def _store(health: Health) -> Iterator[Need]:
    store = health.store
    if store is None:
        yield Need(
            "store_away",
            "bad",
            N_("The database cannot be reached: nothing comes in and nothing goes out."),
            N_("Start it or mend the way to it. Senders are told to try again."),
        )
        return
    if not store.is_current:
        yield Need(
            "migrations_missing",
            "bad",
            N_("The database is at revision “%(revision)s”, this version needs %(wanted)s."),
            N_("Run `yangfan migrate`."),
            {"revision": store.revision or "-", "wanted": store.wanted_revision},
        )
    used, allowed = store.connections, store.connections_allowed
    if used is not None and allowed and used * 100 >= allowed * CONNECTIONS_PERCENT:
        yield Need(
            "connections_short",
            "warn",
            N_("%(used)s of %(allowed)s database connections are in use."),
            N_("Raise max_connections of PostgreSQL, or run fewer processes or threads."),
            {"used": used, "allowed": allowed},
        )


def _machines(health: Health) -> Iterator[Need]:
    broker, disk = health.broker, health.disk
    if not broker.is_reachable:
        since = broker.away_since
        yield Need(
            "broker_away",
            "warn",
            N_("RabbitMQ is not reachable since %(since)s. Work is found later; none is lost."),
            N_("Start it or mend the way to it; the hub goes on by itself then."),
            {"since": since},
        )
    if disk.used_percent >= DISK_FULL_PERCENT or disk.free_bytes < DISK_FREE_BYTES:
        yield Need(
            "disk_full",
            "bad",
            N_("The disk is %(percent)s %% full; %(free)s MB are free."),
            N_("Free some space or enlarge it before the store has to stop."),
            {"percent": disk.used_percent, "free": f"{disk.free_bytes >> 20:,}"},
        )
    if health.archive:
        yield Need(
            "archive_stuck",
            "warn",
            N_("The archive cannot be written (%(trouble)s). Nothing is deleted meanwhile."),
            N_("Look at YANGFAN_ARCHIVE_DIR: is there room, and may the hub write there?"),
            {"trouble": health.archive},
        )


def _processes(health: Health) -> Iterator[Need]:
    alive = [one for one in health.processes if not one.is_silent]
    silent = len(health.processes) - len(alive)
    if silent:
        yield Need(
            "process_silent",
            "warn",
            N_("Processes that have not been heard of for a while: %(count)s."),
            N_("What they held is taken up by others. See whether their machines are well."),
            {"count": silent},
        )
    if health.mode == "scaled" and health.store and not any(p.kind == "worker" for p in alive):
        yield Need(
            "no_worker",
            "bad",
            N_("No worker is running: what waits goes on late."),
            N_("Start at least one with `yangfan worker`."),
        )
    versions = sorted({one.version for one in alive} - {"?", health.version})
    if versions:
        yield Need(
            "versions_differ",
            "warn",
            N_("Some processes run another version (%(others)s) than this one (%(version)s)."),
            N_("Start them anew from the same release."),
            {"others": ", ".join(versions), "version": health.version},
        )


def _work(health: Health, counts: Counts) -> Iterator[Need]:
    if health.waits_seconds > LATE_SECONDS:
        yield Need(
            "events_wait",
            "bad",
            N_("Events that wait to be routed: %(count)s; the oldest for %(minutes)s min."),
            N_("Start more workers; look whether the ones you have are heard of."),
            {"count": told(counts["events_new"]), "minutes": int(health.waits_seconds // 60)},
        )
    late = counts["deliveries_overdue"] + counts["runs_overdue"]
    if late:
        yield Need(
            "work_overdue",
            "warn",
            N_("Deliveries and runs more than a minute late: %(count)s."),
            N_("Start more workers; look whether the ones you have are heard of."),
            {"count": told(late)},
        )
    if counts["events_quarantined"]:
        yield Need(
            "events_set_aside",
            "warn",
            N_("Events set aside because routing them failed three times: %(count)s."),
            N_("Look for “event_not_routed” in the log; their owners can repeat them afterwards."),
            {"count": told(counts["events_quarantined"])},
        )


def told(number: int) -> str:
    """Write a bounded count: `10,000+` says that there are more than were counted."""
    return f"{MOST:,}+" if number > MOST else f"{number:,}"

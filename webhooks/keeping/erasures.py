"""Erasures: what is known of a person goes, live and archived, and a receipt says so.

First it is looked whether anything of it is still on its way; then nothing is touched and the
receipt says what. Otherwise the archive's files are written anew without it, the live rows go, and
exports, which may hold it too, are deleted. A kill in between is made good by doing it again.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, select, update
from sqlmodel import Session

from identity import audit, proofs
from identity.principals import Principal
from kernel import log, tenancy, vault
from kernel.database import reading, store_now, transaction
from kernel.errors import N_, Conflict, Invalid
from kernel.ids import new_id
from kernel.vault import VaultError
from webhooks.keeping import chunks, exports, records, rules
from webhooks.keeping.chunks import Unreadable
from webhooks.keeping.stores import store
from webhooks.keeping.tables import ARCHIVE_CHUNK, ERASURE, ArchiveChunk, Erasure
from webhooks.keeping.turns import Lease
from webhooks.tables import EVENT

KINDS = ("subject", "event")
OPEN = ("queued", "running")
MOST_NAMED = 20
_PAGE = 200
_LENGTH = 500
_logger = log.get_logger(__name__)
_ON_ITS_WAY = N_("This event is still on its way. Nothing was erased; ask again once it is done.")

audit.name_actions(
    {
        "erasure.asked": N_("asked for data to be erased"),
        "erasure.done": N_("erased data"),
        "erasure.refused": N_("did not erase data that is still on its way"),
    }
)


class _Moving(Exception):  # noqa: N818 - says what is the matter
    def __init__(self, ids: Sequence[str]) -> None:
        self.ids = list(ids)
        super().__init__()


def ask(session: Session, by: Principal, kind: str, value: str) -> Erasure:
    """Ask for everything about a subject, or for one event, to be erased.

    Raises Invalid, or Conflict while the event is still on its way.
    """
    if kind not in KINDS:
        message = N_("Choose a subject or an event")
        raise Invalid(errors=[{"pointer": "/kind", "message": message}])
    if not 0 < len(value) <= _LENGTH:
        message = N_("Write the subject, or the id of the event")
        raise Invalid(errors=[{"pointer": "/value", "message": message}])
    organization_id = by.organization_id
    if kind == "event" and _moving(session, organization_id, [value]):
        raise Conflict(detail=_ON_ITS_WAY)
    made_id = new_id("ers")
    made = Erasure(
        organization_id=organization_id,
        id=made_id,
        created_at=store_now(session),
        kind=kind,
        value_sealed=vault.seal(value, _context(organization_id, made_id)),
        value_mark=mark_of(organization_id, value),
        requested_by=by.actor_id,
        requested_by_name=by.name[:120],
    )
    session.add(made)
    session.flush()
    audit.record(session, by, "erasure.asked", made.id, detail={"kind": kind})
    rules.look_again(session, organization_id)
    return made


def mark_of(organization_id: str, value: str) -> str:
    """Return what a receipt shows for a value: the hub can tell it again, nobody can read it."""
    return proofs.sign("erasure", f"{organization_id}|{value}")


def get(session: Session, organization_id: str, erasure_id: str) -> Erasure:
    """Return the organization's erasure; raises NotFound."""
    return tenancy.find(session, Erasure, organization_id, erasure_id)


def _context(organization_id: str, erasure_id: str) -> str:
    return f"{organization_id}|erasure|{erasure_id}|value"


def _moving(session: Session, organization_id: str, ids: Sequence[str]) -> list[str]:
    """Return which of the events are still on their way."""
    found = records.standings(session, organization_id, ids)
    wanted = select(EVENT.c.id).where(
        EVENT.c.organization_id == organization_id,
        EVENT.c.id.in_(ids),
        EVENT.c.state == "archived",
    )
    gone = set(session.execute(wanted).scalars())
    return [one for one, standing in found.items() if standing.is_moving and one not in gone]


# --- the work ------------------------------------------------------------------------------------


def erase_next(lease: Lease) -> bool:
    """Do what was asked for first; True when there may be more."""
    tenant = lease.organization_id
    with reading(tenant) as session:
        waiting = Erasure.of(tenant).where(ERASURE.c.state.in_(OPEN))
        first = session.execute(waiting.order_by(ERASURE.c.id).limit(1)).scalar_one_or_none()
    if first is None or first.value_sealed is None:
        return False
    try:
        value = vault.open_sealed(first.value_sealed, _context(tenant, first.id)).decode()
    except VaultError:  # its key is gone; others must not wait behind it for ever
        _logger.exception("erasure_unreadable", organization_id=tenant, erasure_id=first.id)
        _Work(lease, first, "").end("failed", "erasure.refused", problem="value_unreadable")
        return True
    work = _Work(lease, first, value)
    try:
        work.refuse_what_moves()
        work.go_through_archive()
        work.take_live_rows()
    except _Moving as found:
        work.end("refused", "erasure.refused", moving=found.ids[:MOST_NAMED])
        return True
    except Unreadable as problem:
        work.end("failed", "erasure.refused", problem=problem.code)
        return True
    deleted = exports.drop_old(lease, all_of_them="erased")
    work.end("done", "erasure.done", exports_deleted=deleted)
    return True


class _Work:
    """One erasure under way."""

    def __init__(self, lease: Lease, erasure: Erasure, value: str) -> None:
        self.lease, self.erasure, self.value = lease, erasure, value
        self.tenant = lease.organization_id

    def refuse_what_moves(self) -> None:
        """Look at everything once before anything is touched."""
        moving: list[str] = []
        for ids in self._live_pages():
            with reading(self.tenant) as session:
                moving += _moving(session, self.tenant, ids)
        if moving:
            raise _Moving(moving)
        with transaction(self.tenant) as session:
            self.lease.hold(session)
            self._note(session, state="running")

    def _live_pages(self) -> Any:
        last_id = ""
        while True:
            with reading(self.tenant) as session:
                wanted = select(EVENT.c.id).where(
                    EVENT.c.organization_id == self.tenant,
                    EVENT.c.id > last_id,
                    EVENT.c.state != "archived",
                    EVENT.c.created_at <= self.erasure.created_at,
                    self._is_meant_live(),
                )
                ids = session.execute(wanted.order_by(EVENT.c.id).limit(_PAGE)).scalars().all()
            if ids:
                yield ids
            if len(ids) < _PAGE:
                return
            last_id = ids[-1]

    def _is_meant_live(self) -> Any:
        if self.erasure.kind == "event":
            return EVENT.c.id == self.value
        # as it is stored: a longer one was cut when it came in
        return EVENT.c.subject == self.value

    def _is_meant(self, record: dict[str, Any]) -> bool:
        key = "id" if self.erasure.kind == "event" else "subject"
        return bool(record["event"][key] == self.value)

    def go_through_archive(self) -> None:
        """Write every file anew that holds something of it."""
        last_id = ""
        while True:
            with reading(self.tenant) as session:
                if self.erasure.kind == "event":
                    page = chunks.covering(session, self.tenant, self.value)
                else:
                    page = chunks.after(session, self.tenant, last_id)
            for chunk in page:
                self.lease.renew()
                self._rewrite(chunk)
            if not page or self.erasure.kind == "event":
                return
            last_id = page[-1].id

    def _rewrite(self, chunk: ArchiveChunk) -> None:
        found = list(chunks.read(chunk))
        gone = [record for record in found if self._is_meant(record)]
        if not gone:
            return
        kept = [record for record in found if not self._is_meant(record)]
        new = chunks.write(self.lease, chunk.event_types, kept, chunk.id) if kept else None
        with transaction(self.tenant) as session:
            self.lease.hold(session)
            here = (ARCHIVE_CHUNK.c.organization_id == self.tenant) & (
                ARCHIVE_CHUNK.c.id == chunk.id
            )
            if new is None:
                session.execute(delete(ARCHIVE_CHUNK).where(here))
            else:
                values = new.model_dump(exclude={"organization_id", "id", "created_at", "day"})
                session.execute(update(ARCHIVE_CHUNK).where(here).values(**values))
            self._add(session, gone, "archived_events", chunks_rewritten=1)
        store().delete(chunk.key)

    def take_live_rows(self) -> None:
        """Delete the rows, unless something has begun to move meanwhile."""
        for ids in list(self._live_pages()):
            with transaction(self.tenant) as session:
                self.lease.hold(session)
                records.standings(session, self.tenant, ids, lock=True)
                moving = _moving(session, self.tenant, ids)
                if moving:
                    raise _Moving(moving)
                gone = records.collect(session, self.tenant, ids)
                records.drop(session, self.tenant, ids, store_now(session))
                self._add(session, gone, "live_events")

    def _add(
        self, session: Session, gone: Sequence[dict[str, Any]], name: str, **more: int
    ) -> None:
        counts = {
            name: len(gone),
            "deliveries": records.count_deliveries(gone),
            "runs": records.count_runs(gone),
            **more,
        }
        self._note(session, **{key: ERASURE.c[key] + count for key, count in counts.items()})

    def _note(self, session: Session, **values: Any) -> None:
        session.execute(
            update(ERASURE)
            .where(ERASURE.c.organization_id == self.tenant, ERASURE.c.id == self.erasure.id)
            .values(**values)
        )

    def end(self, state: str, action: str, **values: Any) -> None:
        """Close the receipt; the value itself goes, its mark stays."""
        with transaction(self.tenant) as session:
            self.lease.hold(session)
            self._note(
                session, state=state, value_sealed=None, finished_at=store_now(session), **values
            )
            session.expire_all()
            row = get(session, self.tenant, self.erasure.id)
            names = ("live_events", "archived_events", "deliveries", "runs", "chunks_rewritten")
            detail = {name: getattr(row, name) for name in names}
            audit.record(session, None, action, row.id, organization_id=self.tenant, detail=detail)

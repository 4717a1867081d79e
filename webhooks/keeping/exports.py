"""Exports: files with events that members ask for, written in turns and kept for a week."""

import base64
from collections.abc import Iterator
from datetime import timedelta

from sqlalchemy import select, update
from sqlmodel import Session

from identity import audit
from identity.principals import Principal
from kernel import log, tenancy
from kernel.database import StoreUnavailable, reading, store_now, transaction
from kernel.errors import N_, Conflict, Invalid, NotFound
from kernel.ids import new_id
from webhooks.keeping import export_files, restoring, rules, sealed_files
from webhooks.keeping.chunks import Unreadable
from webhooks.keeping.export_files import Cancelled
from webhooks.keeping.restoring import Span
from webhooks.keeping.stores import store
from webhooks.keeping.tables import DATA_EXPORT, DataExport
from webhooks.keeping.turns import Lease, LeaseLost, Trouble

KEPT = timedelta(days=7)
OPEN = ("queued", "running")
MOST_OPEN = 5
SUFFIX = ".yfx"
_PATTERN = N_("Write an event type such as order.paid, a group such as order.*, or *")
_logger = log.get_logger(__name__)


audit.name_actions(
    {
        "export.asked": N_("asked for an export"),
        "export.cancelled": N_("stopped an export"),
        "export.downloaded": N_("took an export along"),
    }
)


def told(export: DataExport) -> dict[str, str]:
    """Return what the audit trail says of an export."""
    return {
        "since": export.from_at.isoformat(),
        "until": export.until_at.isoformat(),
        "event_types": export.event_types,
    }


def digest_field(export: DataExport) -> str:
    """Return the file's SHA-256 as the header Repr-Digest has it (RFC 9530)."""
    raw = bytes.fromhex(export.digest or "")
    return f"sha-256=:{base64.b64encode(raw).decode()}:"


def ask(session: Session, by: Principal, span: Span) -> DataExport:
    """Ask for a file with the events of a time; raises Invalid, or Conflict when five wait."""
    restoring.check(span)
    if not rules.is_pattern(span.event_types):
        raise Invalid(errors=[{"pointer": "/event_types", "message": _PATTERN}])
    organization_id = by.organization_id
    waiting = DataExport.of(organization_id).where(DATA_EXPORT.c.state.in_(OPEN))
    if len(session.execute(waiting.limit(MOST_OPEN)).all()) >= MOST_OPEN:
        raise Conflict(detail=N_("Five exports are under way; wait for one or cancel it"))
    now = store_now(session)
    made = DataExport(
        organization_id=organization_id,
        id=new_id("exp"),
        created_at=now,
        from_at=span.since,
        until_at=min(span.until, now),
        event_types=span.event_types,
        requested_by=by.actor_id,
        requested_by_name=by.name[:120],
    )
    session.add(made)
    session.flush()
    rules.look_again(session, organization_id)
    return made


def get(session: Session, organization_id: str, export_id: str) -> DataExport:
    """Return the organization's export; raises NotFound."""
    return tenancy.find(session, DataExport, organization_id, export_id)


def cancel(session: Session, organization_id: str, export_id: str) -> DataExport:
    """Stop an export that is not finished; raises Conflict for any other."""
    changed = session.execute(
        update(DATA_EXPORT)
        .where(
            DATA_EXPORT.c.organization_id == organization_id,
            DATA_EXPORT.c.id == export_id,
            DATA_EXPORT.c.state.in_(OPEN),
        )
        .values(state="cancelled", finished_at=store_now(session))
        .returning(DATA_EXPORT.c.id)
    ).all()
    found = get(session, organization_id, export_id)
    if not changed:
        raise Conflict(detail=N_("This export has already come to its end"))
    session.refresh(found)
    return found


def open_file(export: DataExport) -> Iterator[bytes]:
    """Give the .zip a piece at a time; raises NotFound when it is not there (any more)."""
    if export.state != "done" or not export.key:
        raise NotFound(N_("There is no file for this export"))
    return sealed_files.unseal(store().get(export.key), _context(export, export.key))


def _context(export: DataExport, key: str) -> str:
    return f"{export.organization_id}|data_export|{export.id}|{key}"


# --- the work ------------------------------------------------------------------------------------


def write_next(lease: Lease) -> bool:
    """Write the export that has waited longest; True when there may be more."""
    tenant = lease.organization_id
    drop_old(lease)
    with reading(tenant) as session:
        waiting = DataExport.of(tenant).where(DATA_EXPORT.c.state.in_(OPEN))
        first = session.execute(waiting.order_by(DATA_EXPORT.c.id).limit(1)).scalar_one_or_none()
    if first is None:
        return False
    key = f"{tenant}/exports/{first.id}.{lease.epoch}{SUFFIX}"
    draft = export_files.Draft(lease, first)
    try:
        _note(lease, first, state="running", event_count=0, delivery_count=0, run_count=0)
        store().put(key, sealed_files.seal(draft.pieces(), _context(first, key)))
        with transaction(tenant) as session:
            lease.hold(session)
            now = store_now(session)
            draft.note(
                session,
                state="done",
                stage="",
                key=key,
                digest=draft.digest,
                byte_count=draft.byte_count,
                finished_at=now,
                expires_at=now + KEPT,
            )
    except Cancelled:
        store().delete(key)
    except Unreadable as problem:
        _note(lease, first, state="failed", problem=problem.code)
    except (LeaseLost, Trouble, OSError, StoreUnavailable):
        raise  # no fault of this export: it is written later
    except Exception:  # one that can never be written may not keep the archive from its turn
        _logger.exception("export_failed", organization_id=tenant, export_id=first.id)
        _note(lease, first, state="failed", problem="failed")
    return True


def _note(lease: Lease, export: DataExport, **values: object) -> None:
    with transaction(lease.organization_id) as session:
        lease.hold(session)
        export_files.note(session, export, **values)


def drop_old(lease: Lease, *, all_of_them: str = "") -> int:
    """Delete the files whose week is over, or every file for the reason given; returns how many."""
    tenant = lease.organization_id
    with transaction(tenant) as session:
        lease.hold(session)
        over = DATA_EXPORT.c.expires_at <= store_now(session)
        found = session.execute(
            select(DATA_EXPORT.c.id, DATA_EXPORT.c.key).where(
                DATA_EXPORT.c.organization_id == tenant,
                DATA_EXPORT.c.state == "done",
                over if not all_of_them else DATA_EXPORT.c.key.is_not(None),
            )
        ).all()
        session.execute(
            update(DATA_EXPORT)
            .where(
                DATA_EXPORT.c.organization_id == tenant,
                DATA_EXPORT.c.id.in_([row.id for row in found]),
            )
            .values(state="expired", key=None, problem=all_of_them or None)
        )
    for row in found:
        store().delete(row.key)
    return len(found)

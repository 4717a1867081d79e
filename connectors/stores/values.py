"""Values: what flows keep in collections of their organization, within bounds.

What runs do comes in one commit with the record of their step (connectors.resting.deeds), so it is
done exactly once. Whoever changes something locks the organization's StoreUse row first.
Looks over every organization: the sweep deletes what has expired.
"""

from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from typing import Any

from sqlalchemy import Select, delete, func, or_, select, update
from sqlmodel import Session, col

from connectors.stores import errors, shelf
from connectors.stores.errors import Refused
from connectors.stores.tables import STORE_USE, STORED, StoredValue
from kernel import documents, ids, tenancy
from kernel.database import EVERY, reading, store_now, write
from kernel.errors import NotFound
from kernel.rows import insert_rows
from kernel.settings import settings

MAX_BYTES = 64 * 1024
EXPIRED_AT_ONCE = 500


def do(
    session: Session, organization_id: str, given: Mapping[str, Any], by: str | None
) -> dict[str, Any]:
    """Carry out one operation {operation, collection, entry, …} and return what it gives.

    Raises Refused, and nothing is changed then.
    """
    operation = given["operation"]
    if operation == "get":
        return _get(session, organization_id, given)
    if operation == "list":
        return _list(session, organization_id, given)
    _lock(session, organization_id)
    if operation == "delete":
        gone = _delete(session, organization_id, given["collection"], given["entry"])
        return {"found": gone}
    before = _read(session, organization_id, given["collection"], given["entry"])
    if operation == "add":
        value = shelf.total(None if before is None else before.value, given["amount"])
        _put(session, organization_id, given, value, by, before)
        return {"value": value}
    _put(session, organization_id, given, given["value"], by, before)
    return {"is_new": before is None}


def _get(session: Session, organization_id: str, given: Mapping[str, Any]) -> dict[str, Any]:
    found = _read(session, organization_id, given["collection"], given["entry"])
    return {"found": found is not None, "value": None if found is None else found.value}


def _list(session: Session, organization_id: str, given: Mapping[str, Any]) -> dict[str, Any]:
    limit = int(given.get("limit") or 100)
    chosen = select_values(organization_id, given["collection"], given.get("prefix") or "")
    chosen = chosen.where(is_alive(store_now(session))).order_by(col(StoredValue.key))
    rows = list(session.execute(chosen.limit(limit + 1)).scalars())
    items = [{"entry": row.key, "value": row.value} for row in rows[:limit]]
    return {"items": items, "count": len(items), "more": len(rows) > limit}


def is_alive(now: Any) -> Any:
    """Return the condition for what has not expired."""
    return or_(col(StoredValue.expires_at).is_(None), col(StoredValue.expires_at) > now)


def _read(session: Session, organization_id: str, collection: str, key: str) -> Any:
    """Return a value's row unless it has expired, as it is in the database now."""
    wanted = select(STORED).where(
        STORED.c.organization_id == organization_id,
        STORED.c.collection == collection,
        STORED.c.key == key,
        or_(STORED.c.expires_at.is_(None), STORED.c.expires_at > store_now(session)),
    )
    return session.connection().execute(wanted).first()


def _lock(session: Session, organization_id: str) -> None:
    """Hold the organization's use until the commit, made when there is none yet."""
    row = {
        "organization_id": organization_id,
        "id": organization_id,
        "created_at": store_now(session),
        "value_count": 0,
        "byte_count": 0,
    }
    insert_rows(session.connection(), STORE_USE, [row], ("organization_id", "id"))
    mine = select(STORE_USE.c.id).where(STORE_USE.c.organization_id == organization_id)
    session.connection().execute(mine.with_for_update())


def _put(
    session: Session,
    organization_id: str,
    given: Mapping[str, Any],
    value: Any,
    by: str | None,
    before: Any,
) -> None:
    size = len(documents.dump(value))
    if size > MAX_BYTES:
        raise Refused("data", errors.TOO_LARGE)
    collection, key, now = given["collection"], given["entry"], store_now(session)
    _check_room(session, organization_id, before is None, size - (before.size if before else 0))
    if before is None:
        _delete(session, organization_id, collection, key)  # one that has expired
    lasting = given.get("expires")
    row = {
        "value": value,
        "size": size,
        "updated_at": now,
        "updated_by": by,
        "expires_at": None if lasting is None else now + timedelta(seconds=lasting),
    }
    connection = session.connection()
    if before is not None:
        if lasting is None and given["operation"] == "add":
            row["expires_at"] = before.expires_at  # counting on does not make it last for ever
        mine = (STORED.c.organization_id == organization_id) & (STORED.c.id == before.id)
        connection.execute(update(STORED).where(mine).values(row))
    else:
        named = {"organization_id": organization_id, "id": ids.new_id("val"), "created_at": now}
        insert_rows(connection, STORED, [{**named, "collection": collection, "key": key, **row}])
    _count(session, organization_id, before is None, size - (before.size if before else 0))


def _check_room(session: Session, organization_id: str, more: int, more_bytes: int) -> None:
    rows, size = use(session, organization_id)
    most, most_bytes = settings().store_limit_values, settings().store_limit_bytes
    if (more and rows + more > most) or (more_bytes > 0 and size + more_bytes > most_bytes):
        raise errors.full(most, most_bytes // 1_000_000)


def _count(session: Session, organization_id: str, rows: int, size: int) -> None:
    session.connection().execute(
        update(STORE_USE)
        .where(STORE_USE.c.organization_id == organization_id)
        .values(
            value_count=STORE_USE.c.value_count + int(rows),
            byte_count=STORE_USE.c.byte_count + size,
        )
    )


def _delete(session: Session, organization_id: str, collection: str, key: str | None) -> bool:
    """Delete a value, or a whole collection; tells whether there was something that counts."""
    which = [STORED.c.organization_id == organization_id, STORED.c.collection == collection]
    if key is not None:
        which.append(STORED.c.key == key)
    gone = session.connection().execute(
        delete(STORED).where(*which).returning(STORED.c.size, STORED.c.expires_at)
    )
    rows, now = gone.all(), store_now(session)
    if rows:
        _count(session, organization_id, -len(rows), -sum(row[0] for row in rows))
    return any(row[1] is None or row[1] > now for row in rows)


# --- for people ----------------------------------------------------------------------------------


def use(session: Session, organization_id: str) -> tuple[int, int]:
    """Return how many values an organization keeps, and their bytes."""
    wanted = select(STORE_USE.c.value_count, STORE_USE.c.byte_count).where(
        STORE_USE.c.organization_id == organization_id
    )
    row = session.connection().execute(wanted).first()
    return (0, 0) if row is None else (row[0], row[1])


def collections(session: Session, organization_id: str) -> list[Any]:
    """Return (collection, count, bytes, last change) of each collection, by name."""
    wanted = (
        select(
            STORED.c.collection,
            func.count().label("count"),
            func.sum(STORED.c.size).label("bytes"),
            func.max(STORED.c.updated_at).label("updated_at"),
        )
        .where(STORED.c.organization_id == organization_id)
        .group_by(STORED.c.collection)
        .order_by(STORED.c.collection)
    )
    return list(session.connection().execute(wanted))


def select_values(organization_id: str, collection: str, prefix: str = "") -> Select[Any]:
    """Select the values of a collection whose keys begin like this; pages order them."""
    chosen = StoredValue.of(organization_id).where(col(StoredValue.collection) == collection)
    if prefix:
        begins = func.substr(col(StoredValue.key), 1, len(prefix)) == prefix
        chosen = chosen.where(col(StoredValue.key) >= prefix, begins)
    return chosen


def check_there(session: Session, organization_id: str, collection: str) -> None:
    """Raise NotFound when nothing is kept in a collection."""
    chosen = select_values(organization_id, collection).limit(1)
    if session.execute(chosen).first() is None:
        raise NotFound


def find(session: Session, organization_id: str, collection: str, key: str) -> StoredValue:
    """Return one value; NotFound when there is none, or no more."""
    chosen = StoredValue.of(organization_id).where(
        col(StoredValue.collection) == collection,
        col(StoredValue.key) == key,
        is_alive(store_now(session)),
    )
    found: StoredValue | None = session.execute(chosen).scalar_one_or_none()
    if found is None:
        raise NotFound
    return found


def one_of(session: Session, organization_id: str, collection: str, value_id: str) -> StoredValue:
    """Return a value of a collection by its id; NotFound when there is none, or no more."""
    row = tenancy.find(session, StoredValue, organization_id, value_id)
    if row.collection != collection:
        raise NotFound
    return find(session, organization_id, collection, row.key)


def remove(session: Session, organization_id: str, collection: str, key: str | None) -> None:
    """Delete one value, or with None the whole collection; NotFound when nothing was there."""
    _lock(session, organization_id)
    if not _delete(session, organization_id, collection, key):
        raise NotFound


def sweep() -> int:
    """Delete what has expired; returns how many."""
    with reading(EVERY) as session:
        now = store_now(session)
        wanted = (
            select(STORED.c.organization_id)
            .where(STORED.c.expires_at.is_not(None), STORED.c.expires_at <= now)
            .order_by(STORED.c.expires_at)
            .limit(EXPIRED_AT_ONCE)
        )
        owners = sorted(set(session.execute(wanted).scalars()))
    return sum(write(partial(_expire, organization_id=owner)) for owner in owners)


def _expire(session: Session, organization_id: str) -> int:
    _lock(session, organization_id)
    over = (
        select(STORED.c.id)
        .where(
            STORED.c.organization_id == organization_id,
            STORED.c.expires_at.is_not(None),
            STORED.c.expires_at <= store_now(session),
        )
        .limit(EXPIRED_AT_ONCE)
    )
    found = list(session.connection().execute(over).scalars())
    mine = (STORED.c.organization_id == organization_id) & STORED.c.id.in_(found)
    rows = session.connection().execute(delete(STORED).where(mine).returning(STORED.c.size)).all()
    _count(session, organization_id, -len(rows), -sum(row[0] for row in rows))
    return len(rows)

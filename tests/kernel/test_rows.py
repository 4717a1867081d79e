"""Rows that go in together: all or nothing, and only what belongs to what went in."""

from datetime import UTC, datetime

import pytest
from factories.webhooks import in_transaction, rows
from sqlalchemy import bindparam, update
from sqlalchemy.exc import IntegrityError

from identity.tables import AuditEntry, LoginThrottle
from kernel.columns import one_of
from kernel.database import EVERY, transaction, write_once
from kernel.rows import Rows, change_and_add, insert_ignore, insert_rows, insert_together

AUDIT, THROTTLE = AuditEntry.__table__, LoginThrottle.__table__
pytestmark = pytest.mark.usefixtures("database")
AT = datetime(2026, 11, 27, 8, 30, tzinfo=UTC)
KEY = ("organization_id", "id")


def entry(key: str, of: str | None = None, **over) -> dict:
    return {
        "organization_id": "org_a",
        "id": key,
        "created_at": AT,
        "actor_kind": "hub",
        "actor_name": "",
        "action": "made",
        "object_id": of,
        "at": AT,
        "detail": {"price": "12.50", "name": "订单 \"1\" {2}, NULL", "none": None},
    } | over  # fmt: skip


def stored() -> list[str]:
    return [row.id for row in rows(AuditEntry)]


def at_once(work):
    return write_once(lambda session: work(session.connection()))


def test_what_clashes_is_left_out_and_what_went_in_is_said():
    few = [entry(f"a{n}") for n in range(3)]
    with transaction(EVERY) as session:
        assert insert_ignore(session, AuditEntry, few[:2], KEY) == ["a0", "a1"]
    with transaction(EVERY) as session:
        assert insert_ignore(session, AuditEntry, few, KEY) == ["a2"]
        assert insert_rows(session.connection(), AUDIT, []) == []


def test_values_come_back_as_they_went_in():
    """Arrays quote, and None in one of them is no text."""
    odd = entry("a1", ip="10.0.0.1", actor_name='{"a", NULL}\\', actor_id="NULL")
    at_once(lambda c: insert_together(c, [Rows(AUDIT, [odd, entry("a2", **dict.fromkeys(
        ("ip", "actor_id")), actor_name="")])]))  # fmt: skip
    one, two = rows(AuditEntry)
    assert (one.detail, one.at, one.actor_name, one.actor_id) == (
        odd["detail"], AT, '{"a", NULL}\\', "NULL",
    )  # fmt: skip
    assert (two.ip, two.actor_id, two.actor_name) == (None, None, "")


def test_only_what_belongs_to_what_went_in_goes_in():
    at_once(lambda c: insert_rows(c, AUDIT, [entry("old")]))
    first = Rows(AUDIT, [entry("old"), entry("new")], KEY)
    leaves = Rows(
        AUDIT, [entry("l1", "old"), entry("l2", "new"), entry("l3", "new")], of="object_id"
    )
    more = Rows(AUDIT, [entry("m1", "new", ip="1"), entry("m2", "old", ip="2")], of="object_id")
    inserted = at_once(lambda c: insert_together(c, [leaves, more, Rows(AUDIT, [])], first))
    assert inserted == {"new", "l2", "l3", "m1"}
    assert stored() == sorted(["old", *inserted])


def test_without_a_first_all_of_it_goes_in_and_of_nothing_nothing():
    groups = [
        Rows(AUDIT, [entry("a", "b")], of="object_id"),
        Rows(AUDIT, [entry("c", ip="1")], KEY),
    ]
    assert at_once(lambda c: insert_together(c, groups)) == {"a", "c"}
    assert at_once(lambda c: insert_together(c, [Rows(AUDIT, [])])) == set()


def test_one_bad_row_keeps_all_of_them_out():
    first = Rows(AUDIT, [entry("a")], KEY)
    bad = Rows(AUDIT, [entry("b", "a"), entry("b", "a")], of="object_id")
    with pytest.raises(IntegrityError):
        at_once(lambda c: insert_together(c, [bad], first))
    assert stored() == []


CHANGE = (
    update(THROTTLE)
    .where(one_of(THROTTLE.c.id, "ids"), THROTTLE.c.failures == bindparam("was"))
    .values(failures=bindparam("now"), last_failed_at=bindparam("when"), blocked_until=None)
    .returning(THROTTLE.c.id, THROTTLE.c.failures)
)


def failing(*keys: str, failures: int = 1) -> None:
    given = [
        {"id": key, "created_at": AT, "failures": failures, "last_failed_at": AT,
         "blocked_until": AT} for key in keys
    ]  # fmt: skip
    at_once(lambda c: insert_rows(c, THROTTLE, given))


def change(ids, leaves):
    values = {"ids": ids, "was": 1, "now": 2, "when": AT}
    added = Rows(AUDIT, leaves, of="object_id")
    return sorted(tuple(row) for row in at_once(lambda c: change_and_add(c, CHANGE, values, added)))


def test_rows_change_and_what_belongs_to_the_changed_goes_in():
    failing("a", "b")
    failing("other", failures=9)
    leaves = [entry("l1", "a"), entry("l2", "other"), entry("l3", "b"), entry("l4", "absent")]
    assert change(["a", "b", "other"], leaves) == [("a", 2), ("b", 2)]
    assert stored() == ["l1", "l3"]
    one = rows(LoginThrottle)[0]
    assert (one.failures, one.last_failed_at, one.blocked_until) == (2, AT, None)


def test_nothing_to_add_is_a_change_alone():
    failing("a")
    assert change(["a"], []) == [("a", 2)]
    assert change(["a"], [entry("l", "a")]) == [], "it was changed before"
    assert stored() == []


def test_a_bad_addition_undoes_the_change():
    failing("a")
    at_once(lambda c: insert_rows(c, AUDIT, [entry("taken")]))
    with pytest.raises(IntegrityError):
        change(["a"], [entry("taken", "a")])
    assert rows(LoginThrottle)[0].failures == 1


def test_in_a_transaction_it_is_undone_with_the_rest():
    def work(session):
        insert_together(session.connection(), [Rows(AUDIT, [entry("b", "a")], of="object_id")],
                        Rows(AUDIT, [entry("a")], KEY))  # fmt: skip
        raise KeyError

    with pytest.raises(KeyError):
        in_transaction(work)
    assert stored() == []

"""Usage: counted by the hour, drawn for people and given to programs."""

from datetime import timedelta

import pytest
from factories import identity
from factories import webhooks as make
from sqlalchemy import event as listening

from kernel import clock
from kernel.database import EVERY, reading
from kernel.http import Response
from kernel.settings import settings_override
from webhooks import drain, figures, intake, ledger, limits, quotas, refusals, sources, usage
from webhooks.figures import Span
from webhooks.tables import Usage

NOTHING = dict.fromkeys(usage.COUNTERS, 0)


@pytest.fixture(autouse=True)
def _fresh_memory():
    for one in (quotas, refusals, intake):
        one.forget()
    usage.take()


@pytest.fixture
def seat(client):
    def setup(session):
        member = identity.make_member(session, role="owner")
        identity.sign_in(client, session, member)
        return member.organization_id

    return make.in_transaction(setup)


def hour(ago=0):
    return int(clock.now().timestamp() // 3600) - ago


def count(organization_id, ago=0, source_id="src_1", **counts):
    make.in_transaction(lambda s: usage.store(s, {(organization_id, source_id, hour(ago)): counts}))


def test_what_comes_in_and_goes_out_is_counted(client, seat):
    source = make.in_transaction(lambda s: make.make_source(s, seat))
    make.in_transaction(lambda s: make.make_endpoint(s, seat))
    raw = b'[{"type":"shop.opened","data":{}},{"type":"order.paid","data":{}}]'
    token = sources.url_of(source).rsplit("/", 1)[1]
    for _ in range(2):
        answer = client.post(f"/in/{token}", data=raw, headers=make.signed(source, raw))
        assert answer.status_code == 202
    good = Response(200, {}, b"", truncated=False, elapsed_ms=3)
    drain.drain("w1", lambda requests: [good] * len(requests))
    ledger.turn()
    rows = {row.source_id: row for row in make.rows(Usage)}
    came = rows[source.id]
    assert (came.admitted, came.accepted, came.duplicate, came.rejected) == (4, 1, 1, 2)
    assert (rows[""].delivered, rows[""].undelivered) == (1, 0)


def test_a_failed_try_is_counted_as_one(client, seat):
    make.in_transaction(lambda s: (make.make_endpoint(s, seat), make.make_event(s, seat)))
    bad = Response(500, {}, b"", truncated=False, elapsed_ms=3)
    drain.drain("w1", lambda requests: [bad] * len(requests))
    ledger.turn()
    (row,) = make.rows(Usage)
    assert (row.delivered, row.undelivered) == (0, 1)


def test_processes_add_up_in_one_row(database):
    for _ in range(3):
        count("org_a", accepted=2)
    (row,) = make.rows(Usage)
    assert row.accepted == 6


def test_hours_without_anything_are_there_too(database):
    count("org_a", ago=3, accepted=5)
    count("org_a", ago=3, accepted=2, source_id="src_2")
    count("org_b", ago=3, accepted=99)
    with reading(EVERY) as session:
        spans = figures.by_hour(session, "org_a")
        alone = figures.by_hour(session, "org_a", "src_2")
    assert [span.counts["accepted"] for span in spans] == [0] * 20 + [7, 0, 0, 0]
    assert sum(span.counts["accepted"] for span in alone) == 2


def test_days_are_those_of_the_place(database):
    with settings_override(time_zone="Asia/Shanghai"):
        begin, _ = quotas.day_of(clock.now().timestamp())
        with clock.shifted(seconds=begin - clock.now().timestamp() + 60):
            count("org_a", ago=0, accepted=1)
            count("org_a", ago=1, accepted=10)
            with reading(EVERY) as session:
                spans = figures.by_day(session, "org_a")
    assert [span.counts["accepted"] for span in spans[-2:]] == [10, 1]
    assert len(spans) == figures.DAYS


def test_a_chart_shows_the_small_beside_the_large():
    spans = [
        Span(clock.now(), NOTHING | {"accepted": 1000, "refused_form": 1}),
        Span(clock.now(), NOTHING | {"accepted": 500}),
        Span(clock.now(), NOTHING),
    ]
    peak, (first, second, third) = figures.columns(spans, ("accepted", "refused"))
    assert peak == 1001
    assert [name for name, *_ in first.parts] == ["accepted", "refused"]
    assert first.parts[1][3] >= 1.0, "one among a thousand can be seen"
    assert all(top >= 0 for _, _, top, _ in first.parts)
    assert 49 < second.parts[0][3] < 51
    assert (third.total, third.parts) == (0, [])


@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_page_draws_empty_and_full(client, seat, language):
    for path in (f"/usage?lang={language}", "/usage?by=day"):
        page = client.get(path).get_data(as_text=True)
        assert page.count("<h1") == 1
        assert "use-chart" not in page
    count(seat, accepted=1200, refused_proof=3, delivered=5, ran=2)
    page = client.get(f"/usage?lang={language}").get_data(as_text=True)
    assert page.count('class="use-chart"') == 3
    assert "1,200" in page


def test_the_api_gives_the_same(client, seat):
    count(seat, accepted=7, admitted=9)
    shown = client.get("/api/v1/usage").json
    assert shown["used_today"] == 9
    assert shown["quota"]["backlog"] == 200_000
    assert shown["spans"][-1]["counts"]["accepted"] == 7
    assert len(client.get("/api/v1/usage?by=day").json["spans"]) == figures.DAYS
    assert client.get("/api/v1/usage?source_id=src_of_another").status_code == 404


def test_a_members_page_says_that_they_may_not(client):
    make.in_transaction(
        lambda s: identity.sign_in(client, s, identity.make_member(s, role="member"))
    )
    assert client.get("/usage", headers={"Accept": "text/html"}).status_code == 403


def test_the_owner_lowers_a_sources_quota(client, seat):
    source = make.in_transaction(lambda s: make.make_source(s, seat))
    form = {"csrf_token": identity.csrf_of(client, "/sources")}
    path = f"/sources/{source.id}/quota"
    assert client.post(path, data=form | {"per_minute": "1,200"}).status_code == 303
    for wrong in ("abc", "0", "-5", "999999999"):
        answer = client.post(path, data=form | {"per_minute": wrong})
        assert answer.status_code == 422, wrong
        assert "f-per-minute-error" in answer.get_data(as_text=True)
    shown = client.get(f"/api{'/v1'}{path}").json
    assert (shown["per_minute"], shown["burst"]) == (1200, 1200)
    key = client.put(
        f"/api/v1{path}", json={"per_day": 50}, headers={"X-CSRF-Token": form["csrf_token"]}
    )
    assert (key.status_code, key.json["per_day"], key.json["per_minute"]) == (200, 50, 600_000)


def test_old_hours_are_forgotten(database):
    count("org_a", accepted=1)
    count("org_a", ago=24 * (usage.KEPT.days + 1), accepted=1)
    assert make.in_transaction(usage.forget_old) == 1
    assert len(make.rows(Usage)) == 1


def test_a_million_events_cost_the_page_no_more_than_one(client, seat):
    """However many events there are, the page reads neither them nor what they caused."""
    count(seat, accepted=1_000_000)
    asked = []

    def note(_connection, _cursor, statement, *_):
        asked.append(statement.lower())

    with reading(EVERY) as session:
        engine = session.get_bind()
    listening.listen(engine, "before_cursor_execute", note)
    try:
        with reading(seat) as session:
            figures.standing(session, seat)
            figures.by_day(session, seat)
    finally:
        listening.remove(engine, "before_cursor_execute", note)
    assert not [one for one in asked if "from event" in one or "delivery" in one.split(" where")[0]]


def test_near_a_limit_is_said(database):
    with settings_override(quota_per_day=100, backlog_limit=100):
        count("org_a", admitted=79)
        with reading(EVERY) as session:
            assert figures.standing(session, "org_a").near == []
        count("org_a", admitted=1)
        with reading(EVERY) as session:
            found = figures.standing(session, "org_a")
        assert (found.near, found.is_full) == (["day"], False)
        assert found.day_ends_at - clock.now() <= timedelta(days=1)
        make.in_transaction(lambda s: limits.set_for_organization(s, "org_a", {"per_day": 80}))
        with reading(EVERY) as session:
            assert figures.standing(session, "org_a").is_full

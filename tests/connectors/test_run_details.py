"""What runs' steps sent and got goes after the days the rule promises, and the page says so."""

import dataclasses

import pytest
from factories import keeping
from factories import webhooks as make
from factories.connectors import open_shop, runs, settle, steps, vendor
from factories.identity import make_member, sign_in
from sqlalchemy import text, update

from connectors import recovery, run_records
from identity.tables import Organization
from kernel import clock
from kernel.database import EVERY, reading, transaction
from kernel.settings import settings_override
from webhooks.keeping import archiver, chunks, rules
from webhooks.keeping.tables import Keeping
from webhooks.tables import EVENT

DAY = 86_400


@pytest.fixture(autouse=True)
def folder(tmp_path):
    with settings_override(archive_dir=str(tmp_path / "archive")):
        yield


@pytest.fixture
def app_vendor(app):
    with vendor() as target:
        yield target


@pytest.fixture
def shop(app_vendor):
    """A firm whose flow ran twice: once it came to its end, once it stopped for a person."""
    refused = {"code": "PERIOD_CLOSED", "message": "period 2026-10 is closed"}
    found = open_shop(app_vendor.url, orders=1)
    settle()
    app_vendor.answers.append(("sales-orders", 422, refused, {}))
    with transaction(EVERY) as session:
        found.order(session, 2)
        firm = found.organization_id
        session.add(Keeping(organization_id=firm, id=firm, next_at=clock.now()))
        session.execute(update(EVENT).values(state="routed"))
    settle()
    assert [run.state for run in runs()] == ["succeeded", "parked"]
    return found


def details(run):
    return [one for step in steps(run.id) for one in (step.input, step.output) if one is not None]


def test_details_go_when_their_time_is_over_and_what_waits_for_a_person_keeps_them(shop):
    before = {run.id: details(run) for run in runs()}
    keeping.keep_house(29 * DAY)
    assert {run.id: details(run) for run in runs()} == before
    keeping.keep_house(31 * DAY)
    done, parked = runs()
    assert details(done) == []
    assert [step.state for step in steps(done.id)] == ["succeeded"] * 3
    assert steps(done.id)[1].effect_key
    assert (done.details_kept_days, parked.details_removed_at) == (30, None)
    assert done.details_removed_at > done.finished_at
    assert details(parked) == before[parked.id]
    assert parked.detail == "period 2026-10 is closed"


def test_what_ends_late_loses_its_details_late_and_the_apps_own_words_with_them(shop):
    keeping.keep_house(31 * DAY)
    with clock.shifted(seconds=31 * DAY), transaction(EVERY) as session:
        recovery.cancel(session, shop.organization_id, runs()[1].id)
    keeping.keep_house(40 * DAY)
    assert details(runs()[1]) != []
    keeping.keep_house(62 * DAY)
    _, late = runs()
    assert (details(late), late.detail) == ([], None)
    problem = steps(late.id)[1].problem
    assert (problem["cause"], problem["detail"]) == ("data", None)
    assert problem["say"]["zh"]


def test_many_go_in_batches_each_in_a_transaction_of_its_own(shop, app_vendor, monkeypatch):
    with transaction(EVERY) as session:
        for number in range(3, 8):
            shop.order(session, number)
    settle()
    monkeypatch.setattr(archiver, "FORGOTTEN_AT_ONCE", 2)
    real, taken = run_records.forget, []

    def forget(session, organization_id, forgetting):
        taken.append(real(session, organization_id, forgetting))
        return taken[-1]

    follower = dataclasses.replace(run_records.FOLLOWER, forget=forget)
    monkeypatch.setattr(archiver.records, "FOLLOWERS", [follower])
    keeping.keep_house(31 * DAY)
    assert taken == [2, 2, 2, 0]


def test_the_archive_does_not_keep_what_the_rule_takes_away(shop):
    firm = shop.organization_id
    short = dataclasses.replace(rules.DEFAULT, live_days=2)
    make.in_transaction(lambda s: rules.decide(s, firm, short))
    keeping.keep_house(3 * DAY)
    with reading(EVERY) as session:
        (chunk,) = chunks.after(session, firm)
    (record,) = chunks.read(chunk)
    (run,) = record["runs"]
    assert [step["state"] for step in run["steps"]] == ["succeeded"] * 3
    assert [one for step in run["steps"] for one in (step["input"], step["output"])] == [None] * 6
    assert run["details_kept_days"] == 30


@pytest.mark.parametrize(
    ("language", "said"),
    [("zh", "按贵公司保留 30 天的规则"), ("en", "your rule to keep it for 30 days")],
)
def test_the_page_says_when_and_why_they_are_gone(shop, client, language, said):
    with transaction(EVERY) as session:
        organization = session.get(Organization, shop.organization_id)
        sign_in(client, session, make_member(session, organization))
    done, _ = runs()
    assert said not in client.get(f"/runs/{done.id}?lang={language}").text
    keeping.keep_house(31 * DAY)
    assert said in client.get(f"/runs/{done.id}?lang={language}").text
    told = client.get(f"/api/v1/runs/{done.id}").json
    assert (told["details_kept_days"], bool(told["details_removed_at"])) == (30, True)


def test_a_search_for_details_walks_its_index(shop, database):
    if not database.url.startswith("sqlite"):
        pytest.skip("PostgreSQL reads so few rows without any index")
    with reading(EVERY) as session:
        plan = session.execute(
            text(
                "EXPLAIN QUERY PLAN SELECT id FROM run WHERE organization_id = 'o' AND"
                f" {run_records._IS_DETAILED} AND finished_at < '2026-01-01' ORDER BY finished_at"
            )
        ).all()
    assert "ix_run_detailed" in plan[0][3]

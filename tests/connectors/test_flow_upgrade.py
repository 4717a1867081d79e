"""Upgrades: runs under way go on, wherever they stood, and those that wait for people, too."""

import os
from datetime import timedelta

import pytest
from alembic import command
from factories.connectors import Shop, publish_unchecked, rows, runs, settle, steps, vendor
from factories.ways import approval, delay, each, open_works, send, texts
from sqlalchemy import create_engine, text
from stores import ADMIN_URL

from connectors import approvals, claims, flow_documents, flows, lanes, loading, recovery
from connectors.tables import RUN, Approval, FlowVersion, Step
from kernel import clock, database, ids
from kernel.database import EVERY, transaction
from kernel.settings import settings_override
from marketplace import migrating

BEFORE = "0014"  # the last revision whose flows had one way


@pytest.fixture
def app_vendor(app):
    lanes._slice.clear()
    with vendor() as target:
        yield target


@pytest.fixture(params=["sqlite", "postgresql"])
def old_store(request, stores, tmp_path):
    """An empty database, and what takes it back to the edition before, with all that is in it."""
    url = f"sqlite:///{tmp_path}/old.db"
    name = f"yangfan_test_upgrade_{os.getpid()}"
    if request.param == "postgresql":
        if stores["postgresql"].missing:
            pytest.skip(stores["postgresql"].missing)
        with create_engine(ADMIN_URL, isolation_level="AUTOCOMMIT").connect() as admin:
            admin.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
            admin.execute(text(f"CREATE DATABASE {name}"))
        url = ADMIN_URL.rsplit("/", 1)[0] + f"/{name}"
    with settings_override(database_url=url, owner_database_url=url):
        migrating.upgrade()
        yield lambda: take_back(url)
        database.dispose()
    if request.param == "postgresql":
        with create_engine(ADMIN_URL, isolation_level="AUTOCOMMIT").connect() as admin:
            admin.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))


def take_back(url: str) -> None:
    """Bring the database to the edition before."""
    database.dispose()
    engine = create_engine(url)
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT set_config('app.organization_id', '*', true)"))
        config = migrating._config()
        config.attributes["connection"] = connection
        command.downgrade(config, BEFORE)
    engine.dispose()
    assert migrating.current() == BEFORE


def put(session, run, **values):
    """Bring a run into a state, as the edition before would have left it."""
    session.execute(RUN.update().where(RUN.c.id == run.id).values(**values))


def note(session, run, position, key, kind, state, **values):
    session.add(
        Step(
            organization_id=run.organization_id,
            id=ids.new_id("stp"),
            run_id=run.id,
            position=position,
            key=key,
            kind=kind,
            state=state,
            **values,
        )
    )


def test_runs_in_every_state_go_on_after_the_upgrade(old_store):
    lanes._slice.clear()
    with vendor() as target:
        with transaction(EVERY) as session:
            shop = Shop(session, target.url)
            for number in range(1, 9):
                shop.order(session, number)
        past, passed = clock.now() - timedelta(minutes=5), {"passed": True}
        booked = {"document_no": "XS-9", "status": "booked"}
        before = runs()
        with transaction(EVERY) as session:
            _, leased, waiting, middle, succeeded, skipped, parked, cancelled = before
            put(
                session,
                leased,
                state="leased",
                lease_owner="wrk_old",
                lease_epoch=1,
                lease_until=past,
            )
            put(
                session,
                waiting,
                state="waiting",
                next_step=1,
                attempt_count=2,
                cause="down",
                lease_epoch=2,
            )
            note(session, waiting, 0, "enough", "filter", "succeeded", output=passed)
            note(
                session, waiting, 1, "erp", "action", "waiting", attempt_count=2, effect_key="eff_x"
            )
            put(session, middle, next_step=2, lease_epoch=1)
            note(session, middle, 0, "enough", "filter", "succeeded", output=passed)
            note(session, middle, 1, "erp", "action", "succeeded", output=booked)
            put(session, succeeded, state="succeeded", next_step=3, next_at=None, finished_at=past)
            put(session, skipped, state="skipped", next_step=1, next_at=None, finished_at=past)
            put(
                session,
                parked,
                state="parked",
                next_step=1,
                next_at=None,
                cause="data",
                finished_at=past,
            )
            note(session, parked, 0, "enough", "filter", "succeeded", output=passed)
            note(session, parked, 1, "erp", "action", "failed", input={"external_no": "x"})
            put(session, cancelled, state="cancelled", next_at=None, finished_at=past)
        old_store()
        assert migrating.upgrade() == migrating.newest() > BEFORE
        settle("wrk_new")
        states = [run.state for run in runs()]
        assert states == ["succeeded"] * 5 + ["skipped", "parked", "cancelled"]
        with transaction(EVERY) as session:
            recovery.retry_now(session, shop.organization_id, parked.id)
        settle("wrk_new")
        assert next(run.state for run in runs() if run.id == parked.id) == "succeeded"
        assert len(target.orders()) == 4  # due, leased, waiting, parked; the middle one had it
        assert "订单 SO-4 已记账 XS-9" in texts(target)
        assert len(texts(target)) == 5
        assert [one.state for one in steps(waiting.id)] == ["succeeded"] * 3
        assert rows(Approval) == []


def new_process():
    """What a restart forgets."""
    flow_documents._recipes.clear()
    loading._recipe_ids.clear()


def test_what_waits_for_people_and_time_outlives_restarts_and_new_versions(database, app_vendor):
    works = open_works(
        app_vendor.url,
        each(
            "lines", "${event.data.lines}", approval("ok", "付 ${item}"), send("pay", "付 ${item}")
        ),
        delay("later", **{"for": "1h"}),
        send("end", "旧版"),
    )
    boss = works.person()
    works.happen(lines=["A", "B"])
    settle("wrk_1")
    new_process()
    with transaction(EVERY) as session:
        flow = flows.find(session, works.organization_id, works.flow)
        flow.draft = {**works.document, "steps": [works.document["steps"][-1]]}
        publish_unchecked(session, flow)
    for ahead in (0, 100):
        with clock.shifted(seconds=ahead):
            with transaction(EVERY) as session:
                (open_one,) = [one for one in rows(Approval) if one.state == "open"]
                approvals.decide(session, works.organization_id, open_one.id, "approve", boss)
            new_process()
            settle(f"wrk_{ahead}")
    assert (runs()[0].state, runs()[0].cause) == ("waiting", "delay")
    new_process()
    with clock.shifted(seconds=3_800):
        settle("wrk_last")
    assert runs()[0].state == "succeeded"
    assert texts(app_vendor) == ["付 A", "付 B", "旧版"]
    assert len(rows(FlowVersion)) == 2
    assert claims.LEASE_SECONDS

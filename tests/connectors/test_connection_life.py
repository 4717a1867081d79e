"""Connections that stay alive: health in words, ends told ahead, tokens kept fresh, pauses."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from factories import apps
from factories.connectors import make_connection, open_shop, row, rows, runs, settle, vendor
from factories.consents import WAY, Provider
from factories.identity import bearer, make_api_key, make_member, make_organization, sign_in

from connectors import connections, consents
from connectors.engine.grants import Granted
from connectors.health import counts, expiries, looks, refreshing
from connectors.health.tables import ConnectionHour
from connectors.tables import Connection
from identity.tables import Organization
from kernel import clock
from kernel.database import EVERY, StoreUnavailable, reading, transaction
from webhooks.tables import Event


@pytest.fixture
def app_vendor():
    with vendor() as target:
        yield target


def health_of(shop, connection_id=None):
    with reading(EVERY) as session:
        found = connections.find(session, shop.organization_id, connection_id or shop.erp)
        return looks.of(session, found)


# --- health --------------------------------------------------------------------------------------


def test_calls_are_counted_by_the_hour_over_several_writings(database, app_vendor):
    shop = open_shop(app_vendor.url, orders=3)
    settle()
    counts.write_down()
    app_vendor.always["sales-orders"] = (400, {"code": 40001, "message": "bad"})
    with transaction(EVERY) as session:
        shop.order(session, 9)
    settle()
    counts.write_down()
    found = health_of(shop)
    assert (found.ok, found.failed) == (3, 1)
    assert found.last_problem["cause"] in ("data", "config")
    assert sum(dict(found.causes).values()) == 1
    assert found.last_ok_at is not None
    assert found.last_failed_at is not None
    assert found.slowest_ms >= found.mean_ms >= 0
    assert found.share_ok == 0.75
    assert len([one for one in rows(ConnectionHour) if one.connection_id == shop.erp]) == 1
    assert "key-0123456789" not in str([one.model_dump() for one in rows(ConnectionHour)])


def test_counts_that_cannot_be_written_are_kept(database, app_vendor, monkeypatch):
    shop = open_shop(app_vendor.url, orders=1)
    settle()

    def broken(work):
        raise OSError("away")

    with monkeypatch.context() as patched:
        patched.setattr(counts, "write", broken)
        with pytest.raises(OSError, match="away"):
            counts.write_down()
    counts.write_down()
    assert health_of(shop).ok == 1


def test_every_hour_of_a_day_is_there(session):
    now = datetime(2026, 11, 28, 9, 30, tzinfo=UTC)
    hour = ConnectionHour(
        organization_id="o", id="i", connection_id="c", ok=4,
        hour=datetime(2026, 11, 28, 8, tzinfo=UTC),
    )  # fmt: skip
    found = looks.by_hour([hour], now)
    assert len(found) == 24
    assert [one["ok"] for one in found[-3:]] == [0, 4, 0]


# --- pauses --------------------------------------------------------------------------------------


def test_a_paused_connection_calls_nobody_and_loses_nothing(database, app, app_vendor):
    shop = open_shop(app_vendor.url)
    browser = app.test_client()
    with transaction(EVERY) as session:
        owner = make_member(session, session.get(Organization, shop.organization_id))
        sign_in(browser, session, owner)
        key = make_api_key(session, session.get(Organization, shop.organization_id))
    path = f"/api/v1/connections/{shop.erp}"
    assert browser.post(f"{path}/pause", headers=bearer(key)).json["paused_at"]
    with transaction(EVERY) as session:
        shop.order(session)
    settle()
    run = runs()[0]
    assert (run.state, run.cause, run.attempt_count) == ("waiting", "paused", 0)
    assert app_vendor.orders() == []
    page = browser.get(f"/connections/{shop.erp}").get_data(as_text=True)
    assert f"/connections/{shop.erp}/resume" in page
    assert browser.post(f"{path}/resume", headers=bearer(key)).json["paused_at"] is None
    settle()
    assert runs()[0].state == "succeeded"
    assert len(app_vendor.orders()) == 1


# --- what ends -----------------------------------------------------------------------------------


def certificate(days: int) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "shop")])
    now = clock.now()
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


def news() -> list[dict]:
    import json

    return [json.loads(one.body) for one in rows(Event) if one.type == "connection.expiring"]


def test_what_ends_is_told_once_at_each_step(database):
    with transaction(EVERY) as session:
        owner = make_organization(session).id
        made = make_connection(session, owner)
        connections.note_end(session, owner, made.id, clock.now() + timedelta(days=20))
    assert expiries.sweep() == 0
    told = []
    for days in (7, 10, 14, 16, 19.5, 19.6, 25):
        with clock.shifted(seconds=days * 86_400):
            expiries.sweep()
            told.append(len(news()))
    assert told == [1, 1, 2, 2, 3, 3, 3]
    assert [one["days_left"] for one in news()] == ["12", "5", "0"]
    assert {one["what"] for one in news()} == {"credentials"}


def test_a_later_end_is_told_of_anew(database):
    with transaction(EVERY) as session:
        owner = make_organization(session).id
        made = make_connection(session, owner)
        connections.note_end(session, owner, made.id, clock.now() + timedelta(days=5))
    assert expiries.sweep() == 1
    with transaction(EVERY) as session:
        connections.note_end(session, owner, made.id, clock.now() + timedelta(days=6))
    assert expiries.sweep() == 1
    with transaction(EVERY) as session:
        connections.note_end(session, owner, made.id, None)
    assert expiries.sweep() == 0
    assert row(Connection, made.id).ends_at is None


def test_a_certificate_among_the_fields_ends(database):
    with transaction(EVERY) as session:
        owner = make_organization(session).id
        made = make_connection(session, owner, fields={"key": certificate(30)})
    stored = row(Connection, made.id)
    assert stored.ends_what == "certificate"
    assert 28 <= expiries.days_left(stored, clock.now()) <= 30
    with reading(EVERY) as session:
        assert [one.id for one in expiries.upcoming(session, owner, 90)] == [made.id]
        assert expiries.upcoming(session, owner, 10) == []
        assert expiries.upcoming(session, "org_other", 90) == []


def test_a_broken_certificate_ends_nothing(database):
    with transaction(EVERY) as session:
        owner = make_organization(session).id
        pem = "-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----"
        made = make_connection(session, owner, fields={"key": pem})
    assert row(Connection, made.id).ends_at is None


# --- tokens kept fresh ---------------------------------------------------------------------------


@pytest.fixture
def provider():
    return Provider()


@pytest.fixture
def agreed(database, tmp_path, monkeypatch, provider):
    """A connection with a consent that can be renewed; gives its key."""
    apps.in_library(monkeypatch, apps.connector(tmp_path, WAY))
    provider.access, provider.refresh = {"acc-1"}, {"ref-1"}
    with apps.serve(provider) as app:
        with transaction(EVERY) as session:
            owner = make_organization(session).id
            made = connections.create(
                session, owner, "made-up",
                fields={"client_id": "me", "client_secret": "client-secret-1"},
                settings={"base_url": app.url},
            )  # fmt: skip
            session.flush()
            opened = connections.open_connection(made)
            texts = {"access": "acc-1", "refresh": "ref-1"}
            granted = Granted(texts, clock.now() + timedelta(hours=1), None)
            consents.keep(session, made, opened.connector.auth[0], granted, None)
        yield owner, made.id


def test_a_token_that_nobody_uses_is_renewed_all_the_same(agreed, provider):
    assert refreshing.sweep() == 0
    with clock.shifted(seconds=24 * 3600 + 5):
        assert refreshing.sweep() == 1
        assert provider.refreshes == 1
        assert refreshing.sweep() == 0, "and not again at once"
    stored = row(Connection, agreed[1])
    assert stored.refresh_at > clock.now() + timedelta(hours=40)
    assert stored.refresh_failures == 0


def test_a_bad_moment_is_tried_again_later_each_time(agreed, provider):
    provider.trouble = (500, {})
    tries = []
    start = 24 * 3600 + 5
    for later in range(0, 3600, 30):
        with clock.shifted(seconds=start + later):
            if refreshing.sweep():
                tries.append(later)
    gaps = [after - before for before, after in pairwise(tries)]
    assert gaps == sorted(gaps)
    assert 2 <= len(tries) <= 5
    assert row(Connection, agreed[1]).state == "ready"
    provider.trouble = None
    with clock.shifted(seconds=start + 9 * 3600):
        refreshing.sweep()
    assert row(Connection, agreed[1]).refresh_failures == 0


def test_a_store_that_is_away_for_a_moment_ends_no_renewing(agreed, provider, monkeypatch):
    real = refreshing.tokens.ensure

    def away(*_, **__):
        raise StoreUnavailable

    monkeypatch.setattr(refreshing.tokens, "ensure", away)
    with clock.shifted(seconds=24 * 3600 + 5):
        refreshing.sweep()
        assert row(Connection, agreed[1]).refresh_at is not None
    monkeypatch.setattr(refreshing.tokens, "ensure", real)
    with clock.shifted(seconds=25 * 3600):
        assert refreshing.sweep() == 1
    assert provider.refreshes == 1


def test_after_four_days_somebody_is_asked(agreed, provider):
    provider.trouble = (503, {})
    for hours in range(25, 25 + 5 * 24, 6):
        with clock.shifted(seconds=hours * 3600):
            refreshing.sweep()
    stored = row(Connection, agreed[1])
    assert stored.state == "needs_attention"
    assert "管理连接" in stored.problem["say"]["zh"]
    assert stored.refresh_at is None


def test_a_consent_that_was_taken_back_asks_at_once(agreed, provider):
    provider.refresh = set()
    with clock.shifted(seconds=25 * 3600):
        refreshing.sweep()
    stored = row(Connection, agreed[1])
    assert (stored.state, stored.problem["cause"], stored.refresh_at) == (
        "needs_attention", "auth", None,
    )  # fmt: skip


# --- pages and API -------------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_pages_show_it_all(database, app, app_vendor, language):
    shop = open_shop(app_vendor.url, orders=2)
    settle()
    counts.write_down()
    browser = app.test_client()
    with transaction(EVERY) as session:
        owner = make_member(session, session.get(Organization, shop.organization_id))
        sign_in(browser, session, owner)
        soon = clock.now() + timedelta(days=3)
        connections.note_end(session, shop.organization_id, shop.erp, soon)
    listed = browser.get(f"/connections/expiring?lang={language}").get_data(as_text=True)
    assert f"/connections/{shop.erp}" in listed
    assert shop.chat not in listed
    home = browser.get(f"/?lang={language}").get_data(as_text=True)
    assert "/connections/expiring" in home
    page = browser.get(f"/connections/{shop.erp}?lang={language}").get_data(as_text=True)
    assert "2 / 2" in page


def test_the_api_tells_the_same(database, app, app_vendor):
    shop = open_shop(app_vendor.url, orders=2)
    settle()
    counts.write_down()
    client = app.test_client()
    with transaction(EVERY) as session:
        key = make_api_key(session, session.get(Organization, shop.organization_id))
    path = f"/api/v1/connections/{shop.erp}"
    found = client.get(f"{path}/health", headers=bearer(key)).json
    assert (found["ok"], found["failed"], len(found["hours"])) == (2, 0, 24)
    assert client.get(f"{path}/budgets", headers=bearer(key)).status_code == 200
    at = (clock.now() + timedelta(days=9, minutes=5)).isoformat()
    changed = client.patch(path, json={"credentials_end_at": at}, headers=bearer(key))
    assert changed.json["ends_what"] == "credentials"
    listed = client.get("/api/v1/connections/expiring?days=10", headers=bearer(key)).json
    items = listed["items"] if isinstance(listed, dict) else listed
    assert [(one["id"], one["days_left"]) for one in items] == [(shop.erp, 9)]

"""Connections: sealed secrets, one token for many workers, reconnecting wakes what waited."""

import dataclasses
import threading

import pytest
from factories.connectors import (
    Shop,
    make_connection,
    open_shop,
    row,
    rows,
    runs,
    settle,
    vendor,
)
from factories.identity import make_organization

from connectors import connection_checks, connections, tokens
from connectors.engine import loader
from connectors.engine.connector import Field
from connectors.errors import InUse, Unfit
from connectors.tables import Connection
from kernel import clock
from kernel.database import EVERY, reading, transaction
from kernel.errors import NotFound


@pytest.fixture
def app_vendor():
    with vendor() as target:
        yield target


def test_a_secret_is_sealed_and_comes_back_only_for_a_call(session):
    owner = make_organization(session).id
    connection = make_connection(session, owner)
    assert "key-0123456789" not in str(connection.model_dump())
    assert connections.open_connection(connection).values.fields["key"] == "key-0123456789"


def test_a_secret_moved_to_another_row_does_not_open(session):
    owner = make_organization(session).id
    one, other = make_connection(session, owner), make_connection(session, owner)
    other.fields_sealed = one.fields_sealed
    from kernel.vault import VaultError

    with pytest.raises(VaultError):
        connections.open_connection(other)


def test_values_that_do_not_fit_are_refused_with_their_place(session):
    owner = make_organization(session).id
    with pytest.raises(Unfit) as refused:
        connections.create(session, owner, "demo-erp", fields={}, settings={})
    places = {one["pointer"] for one in refused.value.findings}
    assert places == {"/settings/base_url", "/fields/key"}
    with pytest.raises(Unfit):
        connections.create(
            session,
            owner,
            "demo-erp",
            fields={"key": "k", "extra": "x"},
            settings={"base_url": "http://127.0.0.1:1", "more": 1},
        )
    with pytest.raises(NotFound):
        connections.create(session, owner, "no-such-app")


def test_private_addresses_are_refused_before_anything_is_stored(database):
    with pytest.raises(Unfit) as refused:
        connections.check_addresses("demo-erp", {"base_url": "http://192.168.1.1/"})
    assert refused.value.findings[0]["pointer"] == "/settings/base_url"


def test_a_stranger_finds_nothing(session):
    owner, other = make_organization(session).id, make_organization(session).id
    connection = make_connection(session, owner)
    for act in (connections.find, connections.revoke):
        with pytest.raises(NotFound):
            act(session, other, connection.id)


def test_reconnecting_wakes_what_waited_each_once(database, app_vendor):
    app_vendor.good_keys = {"key-0123456789-new", "key-0123456789"} - {"key-0123456789"}
    shop = open_shop(app_vendor.url, orders=4)
    settle()
    assert {run.cause for run in runs()} == {"auth"}
    with transaction(EVERY) as session:
        woken = connections.change_credentials(
            session, shop.organization_id, shop.erp, fields={"key": "key-0123456789-new"}
        )
        connections.change_credentials(
            session, shop.organization_id, shop.chat, fields={"key": "key-0123456789-new"}
        )
    assert woken == 4
    settle()
    assert {run.state for run in runs()} == {"succeeded"}
    assert len(app_vendor.orders()) == 4
    assert row(Connection, shop.erp).state == "ready"


def test_an_empty_secret_keeps_the_present_one(session):
    owner = make_organization(session).id
    connection = make_connection(session, owner)
    connections.change_credentials(session, owner, connection.id, fields={"key": ""})
    assert connections.open_connection(connection).values.fields == {"key": "key-0123456789"}


def test_a_good_test_wakes_and_a_bad_one_marks(database, app_vendor):
    app_vendor.good_keys = set()
    shop = open_shop(app_vendor.url, orders=1)
    tried = connection_checks.test(shop.organization_id, shop.erp)
    assert (tried.state, tried.problem["cause"]) == ("needs_attention", "auth")
    settle()
    assert runs()[0].cause == "auth"
    app_vendor.good_keys = None
    tried = connection_checks.test(shop.organization_id, shop.erp)
    assert (tried.state, tried.problem) == ("ready", None)
    settle()
    assert runs()[0].state == "succeeded"


def test_an_app_that_is_away_does_not_ask_for_new_credentials(database, app_vendor):
    shop = open_shop(app_vendor.url)
    app_vendor.always["ping"] = (503, {})
    tried = connection_checks.test(shop.organization_id, shop.erp)
    assert (tried.state, tried.problem["cause"]) == ("ready", "down")


def test_disconnecting_is_refused_while_flows_use_it(database, app_vendor):
    shop = open_shop(app_vendor.url)
    with transaction(EVERY) as session, pytest.raises(InUse):
        connections.revoke(session, shop.organization_id, shop.erp)
    with transaction(EVERY) as session:
        connections.revoke(session, shop.organization_id, shop.erp, force=True)
        shop.order(session)
    gone = row(Connection, shop.erp)
    assert (gone.state, gone.fields_sealed) == ("revoked", None)
    settle()
    assert (runs()[0].state, runs()[0].cause) == ("parked", "config")


@pytest.fixture
def with_tokens(monkeypatch, app_vendor):
    """The demo ERP with client credentials instead of a key."""
    erp = loader.find("demo-erp")
    secret = Field({"zh": "密钥", "en": "Secret"}, is_secret=True)
    way = dataclasses.replace(
        erp.auth[0],
        id="client",
        kind="oauth2_client",
        fields={"client_id": dataclasses.replace(secret, is_secret=False), "client_secret": secret},
        headers={"Authorization": "Bearer ${token.access}"},
        token={"url": "${settings.base_url}/token"},
    )
    library = {**loader.library(), "demo-erp": dataclasses.replace(erp, auth=(way,))}
    monkeypatch.setattr(loader, "library", lambda: library)
    fields = {"client_id": "me", "client_secret": "client-secret-1"}
    with transaction(EVERY) as session:
        shop = Shop.__new__(Shop)
        shop.organization_id = make_organization(session).id
        shop.erp = make_connection(session, shop.organization_id, app_vendor.url, fields=fields).id
    return shop


def opened(shop):
    with reading(EVERY) as session:
        return connections.open_connection(
            connections.find(session, shop.organization_id, shop.erp)
        )


def test_many_workers_ask_for_one_token(database, app_vendor, with_tokens):
    app_vendor.delay_seconds["/token"] = 0.2
    found: list[str] = []

    def work():
        # a lock of its own for each thread stands for another process
        tokens._locks.clear()
        found.append(tokens.ensure(opened(with_tokens)).values.token["access"])

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == ["tok-1"] * 16
    assert app_vendor.tokens == 1
    assert "tok-1" not in str(rows(Connection)[0].model_dump())


def test_a_token_is_fetched_again_when_refused_or_old(database, app_vendor, with_tokens):
    first = tokens.ensure(opened(with_tokens))
    assert tokens.ensure(first) is first
    second = tokens.ensure(first, stale=True)
    assert second.values.token["access"] == "tok-2"
    assert tokens.ensure(first, stale=True).values.token["access"] == "tok-2"
    with clock.shifted(seconds=7200):
        assert tokens.ensure(opened(with_tokens)).values.token["access"] == "tok-3"


def test_a_lease_left_by_a_dead_worker_runs_out(database, app_vendor, with_tokens):
    from kernel.database import write

    one = opened(with_tokens)
    assert write(lambda session: tokens._take_lease(session, one, "dead"))
    with clock.shifted(seconds=tokens.LEASE_SECONDS + 1):
        assert tokens.ensure(one).values.token["access"] == "tok-1"


def test_a_refused_sign_in_at_the_tokens_door_says_auth(database, app_vendor, with_tokens):
    app_vendor.always["/token"] = (401, {"error": "invalid_client"})
    lost = tokens.ensure(opened(with_tokens))
    assert (lost.answer.kind, lost.answer.cause) == ("fail", "auth")
    tried = connection_checks.test(with_tokens.organization_id, with_tokens.erp)
    assert tried.state == "needs_attention"

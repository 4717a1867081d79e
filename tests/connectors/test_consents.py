"""Consent in an app: bound to one browser, once; renewed by one of many; its end is told."""

import multiprocessing
import re
from threading import Thread
from urllib.parse import parse_qsl, urlsplit

import pytest
from factories import apps
from factories.connectors import row
from factories.consents import WAY, Provider, challenge_of
from factories.identity import make_member, make_organization, sign_in

from connectors import connection_checks, connections, consents, tokens
from connectors.consents import Visitor
from connectors.engine import consent
from connectors.engine.connector import ConnectionValues
from connectors.tables import Connection
from identity.tables import Organization
from kernel import clock
from kernel.database import EVERY, dispose, reading, transaction
from kernel.errors import Forbidden
from kernel.settings import settings_override


@pytest.fixture
def provider():
    return Provider()


@pytest.fixture
def desk(database, client, tmp_path, monkeypatch, provider):
    """A signed-in owner who has filled in an app's form but not agreed yet."""
    apps.in_library(monkeypatch, apps.connector(tmp_path, WAY))
    with apps.serve(provider) as app, settings_override(base_url="https://hub.example"):
        with transaction(EVERY) as session:
            owner = make_organization(session)
            sign_in(client, session, make_member(session, owner))
            client.organization_id = owner.id
            client.connection_id = connections.create(
                session,
                owner.id,
                "made-up",
                fields={"client_id": "me", "client_secret": "client-secret-1"},
                settings={"base_url": app.url},
            ).id
        client.app_, client.key = app, (client.organization_id, client.connection_id)
        yield client


def page(client, path: str) -> str:
    return client.get(path).get_data(as_text=True)


def away(client) -> str:
    """Press the button; gives the app's address."""
    path = f"/connections/{client.connection_id}"
    csrf = re.search(r'name="csrf-token" content="([^"]*)"', page(client, path))[1]
    answer = client.post(f"{path}/authorize", data={"csrf_token": csrf})
    said = answer.get_data(as_text=True)
    found = re.search(r'http-equiv="refresh" content="0; url=([^"]*)"', said)
    assert found, said[:2000]
    assert answer.headers["Cache-Control"] == "no-store"
    return found[1].replace("&amp;", "&")


def opened(key):
    with reading(EVERY) as session:
        return connections.open_connection(connections.find(session, *key))


def agreed(desk, provider):
    """Go the whole way once."""
    return desk.get(consents.PATH + provider.agree(away(desk)))


def test_the_whole_way_and_back(desk, provider):
    before = page(desk, f"/connections/{desk.connection_id}")
    assert "https://hub.example/connections/oauth/callback" in before
    address = away(desk)
    asked = dict(parse_qsl(urlsplit(address).query))
    assert asked["scope"] == "orders:read me"
    assert asked["redirect_uri"] == "https://hub.example/connections/oauth/callback"
    assert "client-secret" not in address
    back = desk.get(consents.PATH + provider.agree(address))
    assert (back.status_code, back.location) == (
        303,
        f"/connections/{desk.connection_id}?done=authorized",
    )
    stored = row(Connection, desk.connection_id)
    assert (stored.state, stored.account) == ("ready", {"id": "42", "name": "启航五金"})
    assert stored.consent_sealed is None
    assert not {"acc-", "ref-"} & set(re.findall("acc-|ref-", str(stored.model_dump())))
    assert set(opened(desk.key).values.token) == {"access", "refresh"}
    after = page(desk, f"/connections/{desk.connection_id}")
    assert "启航五金" in after


def test_the_challenge_is_that_of_the_standard(tmp_path):
    made = apps.connector(tmp_path, WAY)
    verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    values = ConnectionValues(
        {"base_url": "https://api.made-up.example"},
        "consent",
        {"client_id": "me", "client_secret": "s"},
    )
    address = consent.address(
        made, made.auth[0], values, redirect_uri="https://h/c", state="s", verifier=verifier
    )
    asked = dict(parse_qsl(urlsplit(address).query))
    assert asked["code_challenge"] == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    assert asked["code_challenge"] == challenge_of(verifier)
    assert asked["code_challenge_method"] == "S256"


def test_before_anybody_agreed_calls_say_so(desk):
    tried = connection_checks.test(*desk.key)
    assert (tried.state, tried.problem["cause"]) == ("needs_attention", "auth")
    assert "授权" in tried.problem["say"]["zh"]


def test_a_code_works_for_its_own_browser_alone(desk, provider, app):
    query = provider.agree(away(desk))
    other = app.test_client()
    with transaction(EVERY) as session:
        owner = session.get(Organization, desk.organization_id)
        sign_in(other, session, make_member(session, owner))
    for client in (other, app.test_client()):
        client.get(consents.PATH + query)
        assert row(Connection, desk.connection_id).token_sealed is None
    assert other.get(consents.PATH + query).status_code == 403
    assert desk.get(consents.PATH + query).location.endswith("done=authorized")


def test_a_state_works_once_and_not_for_long(desk, provider):
    query = provider.agree(away(desk))
    assert desk.get(consents.PATH + query).status_code == 303
    assert desk.get(consents.PATH + query).status_code == 403
    query = provider.agree(away(desk))
    with clock.shifted(seconds=consents.LASTS.total_seconds() + 1):
        assert desk.get(consents.PATH + query).status_code == 409


@pytest.mark.parametrize("query", ["", "?state=", "?state=con_x.y&code=1", "?code=1&state=%FF"])
def test_whatever_comes_back_without_a_beginning_is_refused(desk, query):
    assert desk.get(consents.PATH + query).status_code == 403


def test_a_person_who_does_not_agree_changes_nothing(desk, provider):
    state = dict(parse_qsl(urlsplit(away(desk)).query))["state"]
    answer = desk.get(f"{consents.PATH}?error=access_denied&state={state}")
    assert answer.status_code == 409
    assert row(Connection, desk.connection_id).token_sealed is None


def test_a_refused_code_is_told_in_the_apps_words(desk, provider):
    query = provider.agree(away(desk))
    provider.codes.clear()
    assert "done" not in desk.get(consents.PATH + query).location
    stored = row(Connection, desk.connection_id)
    assert stored.state == "needs_attention"
    assert "no such code" in stored.problem["detail"]


def test_an_old_token_is_renewed_and_its_refresh_token_rotates(desk, provider):
    agreed(desk, provider)
    first = opened(desk.key).values.token
    with clock.shifted(seconds=3600 - 500):
        second = tokens.ensure(opened(desk.key)).values.token
    assert first["access"] != second["access"]
    assert first["refresh"] != second["refresh"]
    third = tokens.ensure(opened(desk.key), stale=True).values.token
    assert third["refresh"] not in (first["refresh"], second["refresh"])
    assert provider.refreshes == 2


def _renew(one, count, found):
    got = []

    def work():
        ready = tokens.ensure(one, stale=True)
        got.append(isinstance(ready, tokens.NoToken) or ready.values.token["access"])

    threads = [Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    found.put(got)


def test_many_workers_use_a_refresh_token_once(desk, provider):
    agreed(desk, provider)
    fork = multiprocessing.get_context("fork")
    found, one = fork.Queue(), opened(desk.key)
    dispose()
    workers = [fork.Process(target=_renew, args=(one, 60, found)) for _ in range(2)]
    for worker in workers:
        worker.start()
    got = [token for _ in workers for token in found.get(timeout=90)]
    for worker in workers:
        worker.join(30)
    assert len(got) == 120
    assert set(got) == provider.access
    assert provider.refreshes == 1


def test_a_consent_that_was_taken_back_asks_for_a_person(desk, provider):
    agreed(desk, provider)
    provider.access, provider.refresh = set(), set()
    tried = connection_checks.test(*desk.key)
    assert (tried.state, tried.problem["cause"]) == ("needs_attention", "auth")
    assert "重新" in tried.problem["say"]["zh"]
    assert "revoked" in tried.problem["detail"]
    agreed(desk, provider)
    assert connection_checks.test(*desk.key).state == "ready"


@pytest.mark.parametrize("trouble", [(500, {}), (503, {"error": "busy"}), (400, {"error": "odd"})])
def test_a_bad_moment_of_the_app_does_not_end_a_consent(desk, provider, trouble):
    agreed(desk, provider)
    provider.trouble = trouble
    with clock.shifted(seconds=3600):
        tried = connection_checks.test(*desk.key)
        assert (tried.state, tried.problem["cause"]) == ("ready", "down")
        provider.trouble = None
        assert connection_checks.test(*desk.key).problem is None


def test_a_strangers_connection_is_not_there(desk, provider):
    query = provider.agree(away(desk))
    state = dict(parse_qsl(query[1:]))["state"]
    who = Visitor("org_other", "usr_x", "ses_x")
    with transaction(EVERY) as session, pytest.raises(Forbidden):
        consents.take(session, who, state)

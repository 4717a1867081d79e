"""Links to reconnect: for one connection, once, without an account, and telling nothing."""

import re
from threading import Barrier, Thread

import pytest
from factories import apps
from factories.connectors import row, rows
from factories.consents import WAY as CONSENT
from factories.consents import Provider
from factories.identity import bearer, make_api_key, make_member, make_organization, sign_in

from connectors import connection_checks, connections, consents
from connectors.reconnecting import links
from connectors.reconnecting.tables import ReconnectLink
from connectors.tables import Connection
from identity.tables import AuditEntry
from kernel import clock
from kernel.database import EVERY, reading, transaction
from kernel.errors import Forbidden, NotFound
from kernel.settings import settings_override

KEYS = """
auth:
  - id: key
    kind: api_key
    title: {zh: 密钥, en: Key}
    fields:
      shop: {title: {zh: 店铺, en: Shop}}
      key: {title: {zh: 密钥, en: Key}, secret: true}
    apply: {header: {X-Key: "${field.key}", X-Shop: "${field.shop}"}}
http:
  base: "${settings.base_url}"
lifecycle:
  test: {request: {method: GET, path: /me}, save: {account: "${body.name}"}}
"""
OLD, NEW, OTHER = "key-old-0123456789", "key-new-0123456789", "key-other-0123456789"


class Shop:
    """An app that knows its keys."""

    def __init__(self):
        self.names = {OLD: "启航五金", NEW: "启航五金", OTHER: "别家五金"}
        self.away = False

    def __call__(self, call):
        if self.away:
            return 503, {}
        key = call.headers.get("x-key", "")
        name = self.names.get(key)
        if name is None and key in self.names:
            return 200, {"name": ""}  # it takes the key and says nothing of whose it is
        return (200, {"name": name}) if name else (401, {"message": "bad key"})


class Desk:
    """An owner who makes links, and somebody without an account who opens them."""

    def __init__(self, owner, guest, organization_id: str, connection_id: str):
        self.owner, self.guest = owner, guest
        self.organization_id, self.connection_id = organization_id, connection_id

    def link(self, **over) -> str:
        """The path of a new link."""
        with transaction(EVERY) as session:
            _, address = links.make(session, self.organization_id, self.connection_id, **over)
        return address.removeprefix("https://hub.example")

    def opens(self, path: str, **more):
        return self.guest.get(path, **more)

    def posts(self, path: str, browser=None, **form):
        browser = browser or self.guest
        page = browser.get("/sign-in" if browser is self.guest else "/connections")
        found = re.search(r'name="csrf-token" content="([^"]*)"', page.get_data(as_text=True))
        return browser.post(path, data={"csrf_token": found[1], **form})

    @property
    def fields(self) -> dict:
        with reading(EVERY) as session:
            found = connections.find(session, self.organization_id, self.connection_id)
            return dict(connections.open_connection(found).values.fields)


def make_desk(app, manifest: str, url: str, tmp_path, monkeypatch, fields) -> Desk:
    apps.in_library(monkeypatch, apps.connector(tmp_path, manifest))
    owner = app.test_client()
    with transaction(EVERY) as session:
        organization = make_organization(session, name="启航轴承")
        sign_in(owner, session, make_member(session, organization))
        made = connections.create(
            session, organization.id, "made-up", name="店铺", fields=fields,
            settings={"base_url": url},
        ).id  # fmt: skip
    return Desk(owner, app.test_client(), organization.id, made)


@pytest.fixture
def shop():
    return Shop()


@pytest.fixture
def desk(app, shop, tmp_path, monkeypatch):
    with apps.serve(shop) as vendor, settings_override(base_url="https://hub.example"):
        fields = {"shop": "s-1", "key": OLD}
        found = make_desk(app, KEYS, vendor.url, tmp_path, monkeypatch, fields)
        connection_checks.test(found.organization_id, found.connection_id)
        yield found


def text(answer) -> str:
    return answer.get_data(as_text=True)


@pytest.mark.parametrize(("language", "words"), [("zh", "启航轴承"), ("en", "启航轴承")])
def test_the_page_tells_whose_it_is_and_nothing_that_is_stored(desk, language, words):
    answer = desk.opens(f"{desk.link(note='给王会计')}?lang={language}")
    assert answer.status_code == 200
    said = text(answer)
    assert words in said
    assert "给王会计" in said
    assert OLD not in said
    assert "s-1" not in said
    assert answer.headers["Referrer-Policy"] == "same-origin"
    assert "no-store" in answer.headers["Cache-Control"]


def test_a_colleague_without_an_account_renews_it_once(desk):
    path = desk.link()
    answer = desk.posts(path, **{"fields.key": NEW})
    assert answer.status_code == 200
    assert desk.fields == {"shop": "s-1", "key": NEW}
    assert row(Connection, desk.connection_id).account["id"] == "启航五金"
    assert desk.posts(path, **{"fields.key": OLD}).status_code == 404
    assert desk.fields["key"] == NEW
    done = [one for one in rows(AuditEntry) if one.action == "reconnect_link.used"]
    assert [(one.actor_kind, one.object_id) for one in done] == [("guest", desk.connection_id)]
    assert NEW not in str([one.model_dump() for one in rows(AuditEntry)])


def test_the_secret_is_kept_as_a_digest_alone(desk):
    path = desk.link()
    secret = path.rpartition("/")[2]
    kept = str([one.model_dump() for one in rows(ReconnectLink)])
    assert secret not in kept
    assert secret[-43:] not in kept


@pytest.mark.parametrize("wrong", ["key-wrong-000000", ""])
def test_what_the_app_refuses_changes_nothing_and_uses_nothing_up(desk, wrong):
    path = desk.link()
    assert desk.posts(path, **{"fields.key": wrong}).status_code in (200, 422)
    assert desk.fields["key"] == OLD
    assert row(Connection, desk.connection_id).state == "ready"
    assert desk.posts(path, **{"fields.key": NEW}).status_code == 200
    assert desk.fields["key"] == NEW


def test_an_app_that_is_away_takes_nothing(desk, shop):
    shop.away, path = True, desk.link()
    desk.posts(path, **{"fields.key": NEW})
    assert desk.fields["key"] == OLD


def test_settings_cannot_be_changed_through_a_link(desk):
    """Else the next call would carry the key to an address of the guest's."""
    path = desk.link()
    before = row(Connection, desk.connection_id).settings
    evil = {"settings.base_url": "https://evil.example", "fields.base_url": "https://evil.example"}
    assert desk.posts(path, **evil, **{"fields.key": NEW}).status_code == 422
    desk.posts(path, **{"settings.base_url": "https://evil.example", "fields.key": NEW})
    assert row(Connection, desk.connection_id).settings == before


def test_another_account_waits_for_the_owner(desk):
    path = desk.link()
    said = text(desk.posts(path, **{"fields.key": OTHER}))
    assert "别家五金" in said
    assert desk.fields["key"] == OLD, "nothing counts before the owner has said so"
    link = rows(ReconnectLink)[0]
    assert OTHER not in str(link.model_dump())
    page = text(desk.owner.get(f"/connections/{desk.connection_id}"))
    assert "别家五金" in page
    answer = desk.posts(f"/reconnect-links/{link.id}/decide", desk.owner, decision="accept")
    assert answer.status_code == 303
    assert desk.fields["key"] == OTHER
    assert row(Connection, desk.connection_id).account["id"] == "别家五金"


def test_where_the_app_names_no_account_another_id_waits_for_the_owner(desk, shop):
    shop.names |= {NEW: None}
    path = desk.link()
    said = text(desk.posts(f"{path}?lang=en", **{"fields.shop": "s-2", "fields.key": NEW}))
    assert "another account" in said
    assert desk.fields == {"shop": "s-1", "key": OLD}
    link = rows(ReconnectLink)[0]
    assert links.state_of(link) == "held"
    assert "s-2" in text(desk.owner.get(f"/connections/{desk.connection_id}"))
    desk.posts(f"/reconnect-links/{link.id}/decide", desk.owner, decision="accept")
    assert desk.fields == {"shop": "s-2", "key": NEW}
    assert row(Connection, desk.connection_id).account is None


def test_an_owner_who_refuses_keeps_what_was_there(desk):
    desk.posts(desk.link(), **{"fields.key": OTHER})
    link = rows(ReconnectLink)[0]
    desk.posts(f"/reconnect-links/{link.id}/decide", desk.owner, decision="drop")
    assert desk.fields["key"] == OLD
    assert rows(ReconnectLink)[0].held_sealed is None
    again = desk.posts(f"/reconnect-links/{link.id}/decide", desk.owner, decision="accept")
    assert again.status_code == 409
    assert desk.fields["key"] == OLD


def test_a_link_ends_by_time_and_by_hand(desk):
    old, withdrawn = desk.link(), desk.link()
    with clock.shifted(seconds=7 * 86_400 + 1):
        assert desk.opens(old).status_code == 404
    newest = max(rows(ReconnectLink), key=lambda one: one.id)
    desk.posts(f"/reconnect-links/{newest.id}/revoke", desk.owner)
    assert desk.opens(withdrawn).status_code == 404
    assert desk.opens(old).status_code == 200
    assert desk.posts(withdrawn, **{"fields.key": NEW}).status_code == 404


def test_guessing_and_forging_open_nothing(desk):
    path = desk.link()
    for wrong in (path[:-1], path + "x", "/reconnect/yrl_", "/reconnect/%00", path.upper()):
        assert desk.opens(wrong).status_code == 404, wrong
    assert desk.guest.post(path, data={"fields.key": NEW}).status_code == 403
    assert desk.fields["key"] == OLD


def test_tries_are_counted(desk):
    path = desk.link()
    answers = [desk.posts(path, **{"fields.key": f"key-{n}-000000"}) for n in range(13)]
    assert answers[0].status_code == 200
    assert answers[-1].status_code == 429
    assert "Retry-After" in answers[-1].headers


def test_of_two_at_once_one_gets_through(desk):
    path = desk.link()
    secret = path.rpartition("/")[2]
    got, both_looked = [], Barrier(2)

    def use(key):
        with reading(EVERY) as session:
            guest = links.look_up(session, secret)
        both_looked.wait(20)
        try:
            with transaction(desk.organization_id) as session:
                got.append(links.apply_fields(session, guest, {"shop": "s-1", "key": key}, None))
        except NotFound:
            got.append("late")

    threads = [Thread(target=use, args=(key,)) for key in (NEW, OTHER)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(20)
    assert sorted(map(str, got)) == ["True", "late"]


def test_a_link_of_a_disconnected_app_opens_nothing(desk):
    path = desk.link()
    with transaction(EVERY) as session:
        connections.revoke(session, desk.organization_id, desk.connection_id, force=True)
    assert desk.opens(path).status_code == 404


def test_the_same_over_the_api(desk, client):
    with transaction(EVERY) as session:
        from identity.tables import Organization

        key = make_api_key(session, session.get(Organization, desk.organization_id))
    made = client.post(
        f"/api/v1/connections/{desk.connection_id}/reconnect-links",
        json={"note": "王会计"}, headers=bearer(key),
    )  # fmt: skip
    assert made.status_code == 201
    assert made.json["url"].startswith("https://hub.example/reconnect/yrl_")
    listed = client.get(
        f"/api/v1/connections/{desk.connection_id}/reconnect-links", headers=bearer(key)
    )
    first = listed.json["items"][0] if isinstance(listed.json, dict) else listed.json[0]
    assert (first["state"], first["note"]) == ("active", "王会计")
    assert "url" not in first
    gone = client.delete(f"/api/v1/reconnect-links/{first['id']}", headers=bearer(key))
    assert gone.status_code == 204
    assert desk.opens(made.json["url"].removeprefix("https://hub.example")).status_code == 404


# --- consent -------------------------------------------------------------------------------------


@pytest.fixture
def provider():
    return Provider()


@pytest.fixture
def agreeing(app, provider, tmp_path, monkeypatch):
    """A desk whose app is signed in to by consent."""
    with apps.serve(provider) as vendor, settings_override(base_url="https://hub.example"):
        fields = {"client_id": "me", "client_secret": "client-secret-1"}
        yield make_desk(app, CONSENT, vendor.url, tmp_path, monkeypatch, fields)


def away(desk, path: str) -> str:
    said = text(desk.posts(f"{path}/authorize"))
    return re.search(r'http-equiv="refresh" content="0; url=([^"]*)"', said)[1].replace(
        "&amp;", "&"
    )


# the cookie of a hub on https is sent over https alone
HTTPS = {"base_url": "https://hub.example"}


class Secure(Desk):
    """The same over https, as the cookie wants it."""

    def opens(self, path, **more):
        return self.guest.get(path, **HTTPS, **more)

    def posts(self, path, browser=None, **form):
        page = self.guest.get("/sign-in", **HTTPS)
        found = re.search(r'name="csrf-token" content="([^"]*)"', page.get_data(as_text=True))
        return self.guest.post(path, data={"csrf_token": found[1], **form}, **HTTPS)


@pytest.fixture
def secure(agreeing):
    return Secure(agreeing.owner, agreeing.guest, agreeing.organization_id, agreeing.connection_id)


def test_a_guest_signs_in_at_the_app_and_comes_back(secure, provider):
    path = secure.link()
    back = secure.opens(consents.PATH + provider.agree(away(secure, path)))
    assert back.status_code == 200
    assert "启航五金" in text(back)
    stored = row(Connection, secure.connection_id)
    assert (stored.state, stored.account["id"]) == ("ready", "42")
    assert stored.refresh_at is not None
    assert secure.opens(path).status_code == 404
    assert back.headers["Referrer-Policy"] == "same-origin"


def test_what_one_browser_began_another_does_not_end(secure, provider, app):
    query = provider.agree(away(secure, secure.link()))
    stranger = app.test_client()
    answer = stranger.get(consents.PATH + query, headers={"Accept": "text/html"}, **HTTPS)
    assert answer.status_code in (302, 303)
    assert "/sign-in" in answer.location
    assert row(Connection, secure.connection_id).account is None


def test_a_consent_for_another_account_waits_for_the_owner(secure, provider):
    with transaction(EVERY) as session:
        found = connections.find(session, secure.organization_id, secure.connection_id)
        found.account = {"id": "7", "name": "原来的店"}
        session.add(found)
    secure.opens(consents.PATH + provider.agree(away(secure, secure.link())))
    stored = row(Connection, secure.connection_id)
    assert (stored.account["id"], stored.token_sealed) == ("7", None)
    link = rows(ReconnectLink)[0]
    assert (link.held_account["id"], "acc-" in str(link.model_dump())) == ("42", False)
    with transaction(EVERY) as session:
        links.decide(session, secure.organization_id, link.id, accepts=True)
    assert row(Connection, secure.connection_id).account["id"] == "42"
    assert connection_checks.test(secure.organization_id, secure.connection_id).state == "ready"


def test_a_member_still_needs_the_right(secure, client):
    path = f"{consents.PATH}?state=con_x.y&code=z"
    answer = client.get(path, headers={"Accept": "text/html"}, **HTTPS)
    assert "/sign-in" in answer.location


@pytest.mark.parametrize(
    ("said", "passes"),
    [("https://app.example", True), ("https://evil.example", False), (None, False)],
)
def test_an_app_that_says_who_it_is_must_be_the_one(tmp_path, said, passes):
    manifest = CONSENT.replace(
        "params: {scope", 'issuer: "https://app.example"\n      params: {scope'
    )
    made = apps.connector(tmp_path, manifest)
    from connectors.connections import Open
    from connectors.engine.connector import ConnectionValues

    opened = Open(Connection(), made, ConnectionValues({}, "consent", {}), ())
    begun = consents.Begun(opened, made.auth[0], "v")
    if passes:
        consents.check_issuer(begun, said)
    else:
        with pytest.raises(Forbidden):
            consents.check_issuer(begun, said)

"""DingTalk's Stream mode: one holds the line, and what is kept is acknowledged, nothing else."""

import json
import ssl
import threading
import time
from contextlib import suppress

import pytest
import trustme
from dingtalk_stream import frames as kit
from factories.identity import (
    bearer,
    csrf_of,
    make_api_key,
    make_member,
    make_organization,
    sign_in,
)
from websockets.sync.server import serve

from connectors import connections
from connectors.engine import loader, requests
from connectors.errors import Unfit
from connectors.streams import frames, holds, listening
from connectors.streams.tables import HeldStream
from connectors.transports import wires
from kernel import clock, http
from kernel.database import EVERY, StoreUnavailable, reading, transaction, write
from kernel.settings import settings_override
from webhooks import quotas
from webhooks.tables import EVENT, Event

TICKET = "a b+c/="


def event(number=1, kind="bpms_instance_change", **data):
    headers = {
        "appId": "a", "contentType": "application/json", "messageId": f"m{number}", "topic": "*",
        "time": "1700000000000", "eventId": f"e{number}", "eventType": kind,
        "eventBornTime": "1700000000000", "eventCorpId": "ding1", "eventUnifiedAppId": "u",
    }  # fmt: skip
    body = json.dumps(data or {"processInstanceId": f"p{number}", "type": "finish"})
    return {"specVersion": "1.0", "type": "EVENT", "headers": headers, "data": body}


def bot(number=1):
    headers = {"messageId": f"b{number}", "topic": frames.BOT_TOPIC, "time": "1700000000000"}
    body = {"msgId": f"msg{number}", "conversationId": "c", "text": {"content": "你好"}}
    return {
        "specVersion": "1.0", "type": "CALLBACK", "headers": headers, "data": json.dumps(body),
    }  # fmt: skip


def system(topic, data="{}"):
    headers = {"messageId": f"s-{topic}", "topic": topic, "contentType": "application/json"}
    return {"specVersion": "1.0", "type": "SYSTEM", "headers": headers, "data": data}


# --- what is said ---


def test_frames_are_read_as_the_vendors_kit_reads_them():
    told = event()
    mine, theirs = frames.read(json.dumps(told)), kit.EventMessage.from_dict(told)
    assert mine.headers["eventId"] == theirs.headers.event_id
    assert mine.headers["eventType"] == theirs.headers.event_type
    assert mine.message_id == theirs.headers.message_id
    headers, body = frames.delivery(mine, "dingtalk")
    assert headers["webhook-id"] == "e1"
    assert json.loads(body) == {"type": "dingtalk.bpms_instance_change", "data": theirs.data}


def test_answers_are_shaped_as_the_vendors_kit_shapes_them():
    answer = json.loads(frames.answer(frames.read(json.dumps(event()))))
    theirs = kit.AckMessage()
    theirs.code, theirs.message, theirs.data = kit.AckMessage.STATUS_OK, "OK", {"status": "SUCCESS"}
    theirs.headers.message_id = "m1"
    theirs.headers.content_type = kit.Headers.CONTENT_TYPE_APPLICATION_JSON
    wanted = theirs.to_dict()
    assert answer["code"] == wanted["code"]
    assert answer["headers"] == wanted["headers"]
    assert json.loads(answer["data"]) == json.loads(wanted["data"])
    ping = frames.read(json.dumps(system("ping", '{"opaque":"x"}')))
    assert json.loads(frames.answer(ping))["data"] == '{"opaque":"x"}'
    later = json.loads(frames.answer(frames.read(json.dumps(event())), is_kept=False))
    assert json.loads(later["data"]) == {"status": "LATER"}


@pytest.mark.parametrize(
    "raw", ["", "x", "[]", "{}", '{"headers": 1}', b"\xff", '{"type": "EVENT"}']
)
def test_what_is_no_frame(raw):
    assert frames.read(raw) is None


def test_the_ticket_is_asked_for_with_the_apps_own_credentials():
    connector = loader.find("dingtalk")
    values = connections.ConnectionValues(
        auth="app", fields={"app_key": "key", "app_secret": "secret"}
    )
    request = requests.build_token(connector, values, connector.stream.open)
    assert request.url == "https://api.dingtalk.com/v1.0/gateway/connections/open"
    told = json.loads(request.body)
    assert (told["clientId"], told["clientSecret"]) == ("key", "secret")
    assert told["subscriptions"] == list(frames.SUBSCRIPTIONS)


# --- a gateway to talk to ---


class Gateway:
    """Says what it is told to, and notes what it hears."""

    def __init__(self):
        self.script, self.heard, self.paths = [], [], []
        self.came = threading.Semaphore(0)

    def talk(self, line):
        self.paths.append(line.request.path)
        self.came.release()
        for told in list(self.script):
            line.send(json.dumps(told))
            self.heard.append(json.loads(line.recv(timeout=10)))
        with suppress(Exception):
            line.recv(timeout=10)


@pytest.fixture
def gateway(app, monkeypatch):
    quotas.forget()
    authority, made = trustme.CA(), Gateway()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    def trusting():
        trusted = ssl.create_default_context()
        authority.configure_trust(trusted)
        return trusted

    monkeypatch.setattr(wires, "CONTEXT", trusting)
    monkeypatch.setattr(listening, "LISTEN_SECONDS", 0.1)
    with serve(made.talk, "127.0.0.1", 0, ssl=context) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        made.port = server.socket.getsockname()[1]
        made.endpoint = f"wss://127.0.0.1:{made.port}/connect"

        def opened(request):
            told = {"endpoint": made.endpoint, "ticket": TICKET}
            return http.Response(200, {}, json.dumps(told).encode(), truncated=False, elapsed_ms=1)

        monkeypatch.setattr(http, "send", opened)
        stream = loader.find("dingtalk").stream
        real = listening._is_own
        monkeypatch.setattr(
            listening, "_is_own", lambda host, hosts: host == "127.0.0.1" or real(host, hosts)
        )
        assert stream.hosts == ("*.dingtalk.com",)
        with settings_override(outbound_allow=(f"127.0.0.1:{made.port}",)):
            yield made


@pytest.fixture
def firm(app):
    with transaction(EVERY) as session:
        organization = make_organization(session)
        fields = {"app_key": "key", "app_secret": "secret-0123456789"}
        made = connections.create(session, organization.id, "dingtalk", fields=fields)
        session.flush()
        row = holds.start(session, organization.id, made.id)
        return organization.id, made.id, row.id


def stream_of(firm):
    with reading(firm[0]) as session:
        return session.get(HeldStream, (firm[0], firm[2]))


def kept(firm):
    with reading(firm[0]) as session:
        return list(session.execute(Event.of(firm[0]).order_by(EVENT.c.id)).scalars())


def claimed(worker="w1"):
    return write(lambda session: holds.claim(session, worker))


def test_messages_become_events_and_are_acknowledged(gateway, firm):
    gateway.script = [
        system("ping", '{"opaque":"1"}'),
        event(1),
        bot(1),
        event(1),
        system("disconnect"),
    ]
    listening.hold(claimed())
    assert gateway.paths == ["/connect?ticket=a%20b%2Bc%2F%3D"]
    assert [one["code"] for one in gateway.heard] == [200] * 5
    found = kept(firm)
    assert sorted(one.type for one in found) == [
        "dingtalk.bpms_instance_change", "dingtalk.robot_message",
    ]  # fmt: skip
    row = stream_of(firm)
    assert (row.state, row.problem, row.failure_count) == ("waiting", None, 0)
    assert row.message_count == 3
    assert row.next_at <= clock.now()  # called anew at once, as the gateway asked


def test_a_process_that_dies_before_the_commit_acknowledged_nothing(gateway, firm, monkeypatch):
    gateway.script = [event(7)]
    real = listening.fetched.take_in

    class Killed(BaseException):
        pass

    def dying(source, new):
        raise Killed

    monkeypatch.setattr(listening.fetched, "take_in", dying)
    with pytest.raises(Killed):
        listening.hold(claimed())
    assert gateway.heard == []
    assert kept(firm) == []
    monkeypatch.setattr(listening.fetched, "take_in", real)
    write(lambda session: holds.release(session, "w1"))
    gateway.script = [event(7), system("disconnect")]  # nobody acknowledged it: it comes again
    listening.hold(claimed("w2"))
    assert len(kept(firm)) == 1
    assert [one["code"] for one in gateway.heard] == [200, 200]


def test_one_that_dies_after_the_commit_makes_nothing_twice(gateway, firm, monkeypatch):
    gateway.script = [event(8)]
    real = listening.fetched.take_in

    class Killed(BaseException):
        pass

    def dying(source, new):
        real(source, new)
        raise Killed

    monkeypatch.setattr(listening.fetched, "take_in", dying)
    with pytest.raises(Killed):
        listening.hold(claimed())
    assert gateway.heard == []
    monkeypatch.setattr(listening.fetched, "take_in", real)
    write(lambda session: holds.release(session, "w1"))
    gateway.script = [event(8), system("disconnect")]
    listening.hold(claimed("w2"))
    assert len(kept(firm)) == 1


def test_without_room_a_message_is_to_be_sent_again(gateway, firm, monkeypatch):
    def full(source, new):
        raise listening.OverQuota(retry_after_seconds=5)

    monkeypatch.setattr(listening.fetched, "take_in", full)
    gateway.script = [event(1), system("disconnect")]
    listening.hold(claimed())
    assert json.loads(gateway.heard[0]["data"]) == {"status": "LATER"}


def test_while_the_store_is_away_nothing_is_acknowledged(gateway, firm, monkeypatch):
    real = listening.fetched.take_in

    def away(source, new):
        raise StoreUnavailable

    monkeypatch.setattr(listening.fetched, "take_in", away)
    gateway.script = [event(9)]
    listening.hold(claimed())
    assert gateway.heard == []
    monkeypatch.setattr(listening.fetched, "take_in", real)
    write(lambda session: holds.release(session, "w1"))
    gateway.script = [event(9), system("disconnect")]
    listening.hold(claimed("w2"))
    assert len(kept(firm)) == 1


def test_one_holds_it_and_a_lost_lease_hangs_up(gateway, firm):
    row = claimed()
    assert claimed("w2") is None
    thread = threading.Thread(target=listening.hold, args=(row,))
    thread.start()
    assert gateway.came.acquire(timeout=10)
    until = time.monotonic() + 10
    while stream_of(firm).connected_at is None and time.monotonic() < until:
        time.sleep(0.05)
    assert stream_of(firm).connected_at is not None
    with transaction(firm[0]) as session:
        holds.stop(session, firm[0], firm[1])
    thread.join(10)
    assert not thread.is_alive()
    assert stream_of(firm).state == "off"
    assert claimed("w2") is None


def test_trouble_waits_longer_each_time(gateway, firm, monkeypatch):
    refused = http.Response(
        403, {}, b'{"code": "Forbidden", "message": "no"}', truncated=False, elapsed_ms=1
    )
    monkeypatch.setattr(http, "send", lambda request: refused)
    waits = []
    for _ in range(3):
        listening.hold(claimed())
        row = stream_of(firm)
        waits.append((row.next_at - clock.now()).total_seconds())
        assert row.problem["cause"] == "auth"
        with transaction(firm[0]) as session:
            session.get(HeldStream, (firm[0], firm[2])).next_at = clock.now()
    assert 2 < waits[0] < 5 < waits[1] < 16 < waits[2] < 46
    assert stream_of(firm).failure_count == 3


@pytest.mark.parametrize(
    "endpoint",
    ["wss://evil.example/connect", "wss://dingtalk.com.evil.example/", "ws://a.dingtalk.com/", ""],
)
def test_a_ticket_for_somewhere_else_is_not_followed(gateway, firm, endpoint):
    gateway.endpoint = endpoint
    listening.hold(claimed())
    row = stream_of(firm)
    assert row.problem["cause"] in ("config", "down", "auth")
    assert gateway.paths == []


def test_a_private_address_behind_a_good_name_is_refused(gateway, firm, monkeypatch):
    monkeypatch.setattr(listening.addresses, "RESOLVER", lambda _host: ["10.0.0.1"])
    gateway.endpoint = "wss://stream.dingtalk.com/connect"
    listening.hold(claimed())
    assert "private" in stream_of(firm).problem["detail"]


def test_only_apps_with_a_stream_have_one(firm):
    with transaction(firm[0]) as session:
        other = connections.create(
            session, firm[0], "ntfy", settings={"base_url": "https://ntfy.example"}
        )
        session.flush()
        with pytest.raises(Unfit):
            holds.start(session, firm[0], other.id)


@pytest.mark.parametrize(
    ("language", "off", "on"),
    [("zh", "开始接收", "停止接收"), ("en", "Listen from now on", "Listen no more")],
)
def test_the_page_switches_it_on_and_off(app, client, language, off, on):
    with transaction(EVERY) as session:
        organization = make_organization(session)
        member = make_member(session, organization, role="owner")
        fields = {"app_key": "key", "app_secret": "secret-0123456789"}
        made = connections.create(session, organization.id, "dingtalk", fields=fields)
        sign_in(client, session, member)
        path = f"/connections/{made.id}"
    assert off in client.get(f"{path}?lang={language}", headers={"Accept": "text/html"}).text
    form = {"csrf_token": csrf_of(client, path)}
    started = client.post(f"{path}/stream", data=form)
    assert started.status_code == 303
    page = client.get(started.location, headers={"Accept": "text/html"}).text
    assert on in page
    assert ("未连接" if language == "zh" else "Not connected") in page
    assert client.post(f"{path}/stream/stop", data=form).status_code == 303
    assert off in client.get(path, headers={"Accept": "text/html"}).text


def test_the_api_switches_it_on_and_off(app, client):
    with transaction(EVERY) as session:
        organization = make_organization(session)
        key = make_api_key(session, organization)
        fields = {"app_key": "key", "app_secret": "secret-0123456789"}
        made = connections.create(session, organization.id, "dingtalk", fields=fields)
        session.flush()
        path = f"/api/v1/connections/{made.id}/stream"
    assert client.get(path, headers=bearer(key)).json["state"] == "off"
    assert client.post(path, headers=bearer(key)).status_code == 201
    again = client.post(path, headers=bearer(key))
    assert client.get(path, headers=bearer(key)).json["id"] == again.json["id"]
    assert client.delete(path, headers=bearer(key)).status_code == 204
    assert client.get(path, headers=bearer(key)).json["state"] == "off"

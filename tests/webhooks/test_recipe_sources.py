"""Sources that prove with a recipe: handshakes, what comes in, what is answered or refused."""

import base64
import copy
import hashlib
import hmac
import json
import threading
from datetime import timedelta
from urllib.parse import urlencode

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from factories import identity
from factories import webhooks as make
from factories.asgi import ask
from wechatpy.crypto import WeChatCrypto as OfficialCrypto
from wechatpy.enterprise.crypto import WeChatCrypto
from wechatpy.utils import check_signature

from kernel import clock
from kernel.errors import Invalid
from marketplace.front import Front
from tests.webhooks.recipes import vectors
from webhooks import fillings, intake, nonces, offers, recipes, refusals, sources
from webhooks.recipes import options as checks
from webhooks.tables import Event, Nonce, Refusals, Source

pytestmark = pytest.mark.usefixtures("database")
AES_KEY = vectors.WECOM["secret"]["aes_key"]
SAY = {"zh": "值", "en": "Value"}
OPTIONS = {
    "secrets": {
        "token": {"title": SAY},
        "aes_key": {"title": SAY, "pattern": "^[A-Za-z0-9]{43}$"},
        "receiver": {"title": SAY, "secret": False},
    },
    "steps": [*vectors.XML, {"fresh": "${query.timestamp}", "within_seconds": 300}],
    "body": "${plain.message}",
    "id": ["${event.MsgId}", "${event.FromUserName}${event.CreateTime}${event.Event}"],
    "at": {"value": "${event.CreateTime}", "unit": "s"},
    "type": {"value": ["${event.Event}.${event.ChangeType}", "${event.MsgType}"],
             "prefix": "wecom."},
    "handshake": [
        {"when": {"method": "GET", "has": "query.echostr"}, "steps": vectors.ECHO,
         "reply": {"text": "${plain.message}"}},
    ],
    "ack": {"status": 200, "text": "success"},
}  # fmt: skip
FILLED = {"token": "tok", "aes_key": AES_KEY, "receiver": "corp1"}
MESSAGE = (
    "<xml><FromUserName>u1</FromUserName><CreateTime>1700000000</CreateTime>"
    "<MsgType>event</MsgType><Event>change_contact</Event><ChangeType>create_user</ChangeType>"
    "<Name>李雷</Name></xml>"
)


def opened(options=OPTIONS, filled=FILLED, **over):
    """A source with this recipe; gives it and its door."""
    source = make.in_transaction(
        lambda session: make.make_source(
            session, "org_a", scheme="recipe", scheme_options=options, filled=filled, **over
        )
    )
    intake.forget()
    return source, door_of(source)


def door_of(source) -> str:
    return "/in/" + sources.url_of(source).rsplit("/", 1)[1]


def sealed(message=MESSAGE, token="tok", receiver="corp1", at=None, nonce="n1", **more):
    """What WeCom's kit makes of a message: query and body."""
    stamp = str(int((at or clock.now()).timestamp()))
    body = WeChatCrypto(token, AES_KEY, receiver).encrypt_message(message, nonce, stamp)
    signature = recipes.read_xml(body.encode())["MsgSignature"]
    query = {"msg_signature": signature, "timestamp": stamp, "nonce": nonce, **more}
    return urlencode(query), body.encode()


def noted(source):
    """What the owner is told of refusals at a source."""
    make.in_transaction(lambda session: refusals.store(session, refusals.take()))
    return make.row(Refusals, source.id)


@pytest.fixture(params=["framework", "gate"])
def post(request, app, client):
    """POST to a door, the short way or the framework's."""
    if request.param == "framework":
        return lambda door, query, body, **h: client.post(
            f"{door}?{query}", data=body, headers={"content-type": "text/xml", **h}
        )
    front = Front(app)
    return lambda door, query, body, **h: ask(
        front, f"{door}?{query}", [body],
        headers=[("content-type", "text/xml"), ("content-length", str(len(body)))],
    )  # fmt: skip


def test_an_event_comes_in(post):
    source, door = opened()
    answer = post(door, *sealed())
    assert (answer.status_code, answer.data) == (200, b"success")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    (event,) = make.rows(Event)
    assert event.type == "wecom.change_contact.create_user"
    assert json.loads(event.body)["Name"] == "李雷"
    assert event.content_type == "application/json"
    assert event.occurred_at.timestamp() == 1_700_000_000
    assert event.source_id == source.id


def test_a_copy_is_answered_alike_and_kept_once(post):
    _, door = opened()
    for nonce in ("n1", "n2"):
        answer = post(door, *sealed(nonce=nonce))
        assert (answer.status_code, answer.data) == (200, b"success")
    assert len(make.rows(Event)) == 1


def test_ids_with_a_way_back(post):
    _, door = opened()
    post(door, *sealed("<xml><MsgType>text</MsgType><MsgId>7</MsgId><Content>a</Content></xml>"))
    post(door, *sealed("<xml><MsgType>text</MsgType><MsgId>7</MsgId><Content>b</Content></xml>"))
    post(door, *sealed("<xml><MsgType>text</MsgType><Content>a</Content></xml>"))
    post(door, *sealed("<xml><MsgType>text</MsgType><Content>a</Content></xml>", nonce="n2"))
    keys = [event.dedupe_key for event in make.rows(Event)]
    assert len(keys) == 2
    assert keys[0] == "message:7"
    assert keys[1].startswith("body:")


def test_the_raw_bytes_stay_exact(post):
    steps = [{"equal": ["${secret.token}", "${query.token}"]}]
    _, door = opened({"secrets": {"token": {"title": SAY}}, "steps": steps,
                      "type": {"value": "app.thing"}}, {"token": "t"})  # fmt: skip
    raw = b'{ "b": 1.50, "a":10000000000000000000001 }'
    answer = post(door, "token=t", raw)
    assert answer.status_code == 202  # the hub's own answer where the recipe has none
    (event,) = make.rows(Event)
    assert event.body == raw


@pytest.mark.parametrize(
    "change",
    [
        {"token": "other"}, {"receiver": "corp2"}, {"at": clock.now() - timedelta(seconds=400)},
        {"msg_signature": "0" * 40},
    ],
)  # fmt: skip
def test_refusals_sound_alike(post, change):
    source, door = opened()
    query, body = sealed(**change)
    answers = [post(door, query, body), post(door, "", body), post(door, query, b"<xml/>"),
               post(door, query, b"")]  # fmt: skip
    assert {answer.status_code for answer in answers} == {401}
    said = [{**answer.get_json(), "trace_id": ""} for answer in answers]
    assert said[0]["code"] == "signature_mismatch"
    assert all(one == said[0] for one in said)
    assert make.rows(Event) == []
    row = noted(source)
    told = json.dumps(row.latest)
    assert "Step " in told
    assert "tok" not in told.replace("token", "")


def test_a_refusal_in_the_senders_words(post):
    options = {**OPTIONS, "refuse": {"status": 403, "json": {"code": "FAIL"}}}
    _, door = opened(options)
    answer = post(door, *sealed(token="wrong"))
    assert (answer.status_code, answer.get_json()) == (403, {"code": "FAIL"})


def test_a_heavy_recipe_is_run_by_a_thread(app, monkeypatch):
    large = [{"as": "large", "text": "${body}" * 40}, {"as": "h", "hash": "md5", "of": "${large}"}]
    proof = {"equal": ["${secret.token}", "${query.token}"]}
    _, door = opened(
        {"secrets": {"token": {"title": SAY}}, "steps": [*large, proof]}, {"token": "tok"}
    )
    threads = []
    examine = intake.examine

    def watched(*given, **named):
        found = examine(*given, **named)
        threads.append((threading.current_thread(), named.get("from_memory", False)))
        return found

    monkeypatch.setattr(intake, "examine", watched)
    body = json.dumps({"type": "a.b", "data": {"text": "x" * 30_000}}).encode()
    first = ask(Front(app), f"{door}?token=tok", [body])
    again = ask(Front(app), f"{door}?token=tok", [body])
    assert (first.status_code, again.status_code) == (202, 202)
    assert [is_inline for _, is_inline in threads] == [False, False]
    assert threading.main_thread() not in {thread for thread, _ in threads}


def test_handshake_over_get(client):
    _, door = opened(filled={**vectors.WECOM["secret"], "receiver": "wx5823bf96d3bd56c7"})
    query = vectors.WECOM_ECHO["query"]
    answer = client.get(f"{door}?{urlencode(query)}")
    assert (answer.status_code, answer.data) == (200, b"1616140317555161061")
    assert make.rows(Event) == []
    bad = client.get(f"{door}?{urlencode({**query, 'nonce': '1'})}")
    assert bad.status_code == 401
    assert client.get(door).status_code == 401
    assert client.head(f"{door}?{urlencode(query)}").data == b""


@pytest.mark.parametrize(
    "kind", ["text/html", "text/javascript", "image/svg+xml", "application/xhtml+xml"]
)
def test_an_answer_is_never_a_page_or_a_script(client, post, kind):
    echo = {
        "when": {"has": "query.echo"},
        "reply": {"text": "${query.echo}", "content_type": kind},
    }
    options = {**OPTIONS, "handshake": [echo]}
    assert [place for place, _ in checks.check_options(options)] == [
        "/handshake/0/reply/content_type"
    ]
    source, door = opened({**OPTIONS, "handshake": [{**echo, "reply": {"text": "${query.echo}"}}]})

    def kept_from_before(session):
        session.get(Source, ("org_a", source.id)).scheme_options = options

    make.in_transaction(kept_from_before)
    intake.forget()
    query = urlencode({"echo": "<script>alert(1)</script>"})
    for answer in (client.get(f"{door}?{query}"), post(door, query, b"")):
        assert answer.data == b"<script>alert(1)</script>"
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in answer.headers["content-security-policy"]


def test_get_at_other_doors_is_as_before(client):
    source = make.in_transaction(lambda s: make.make_source(s, "org_a", scheme="none"))
    answer = client.get(door_of(source))
    assert answer.status_code == 405
    assert "POST" in answer.headers["Allow"]
    assert client.get("/in/nobody").status_code == 404


FEISHU = {
    "secrets": {"encrypt_key": {"title": SAY}, "token": {"title": SAY}},
    "handshake": [
        {"when": {"method": "POST"},
         "steps": [*vectors.FEISHU_OPEN, {"as": "event", "parse": "json", "of": "${plain}"},
                   {"equal": ["${event.type}", "url_verification"]},
                   {"equal": ["${event.token}", "${secret.token}"]}],
         "reply": {"json": {"challenge": "${event.challenge}"}}},
    ],
    "steps": vectors.FEISHU,
    "body": "${plain}",
    "id": "${event.header.event_id}",
    "type": {"value": "${event.header.event_type}", "prefix": "feishu."},
    "ack": {"json": {"msg": "success"}},
}  # fmt: skip


def feishu(message):
    steps = [
        {"as": "sealed", "encrypt": "aes_cbc", "key": "k", "key_is": "sha256_of",
         "iv_is": "data_head", "of": "${message}"},
        {"as": "body", "text": '{"encrypt":"${sealed}"}'},
        {"as": "mac", "hash": "sha256", "of": "1n1k${body}"},
    ]  # fmt: skip
    made = recipes.run(steps, {"message": json.dumps(message)}, vectors.at(1))
    headers = {"X-Lark-Request-Timestamp": "1", "X-Lark-Request-Nonce": "n1",
               "X-Lark-Signature": made["mac"].decode()}  # fmt: skip
    return made["body"], headers


def test_handshake_over_post(client):
    _, door = opened(FEISHU, {"encrypt_key": "k", "token": "vt"})
    message = {"type": "url_verification", "token": "vt", "challenge": "c-1"}
    answer = client.post(door, data=feishu(message)[0])
    assert (answer.status_code, answer.get_json()) == (200, {"challenge": "c-1"})
    assert client.post(door, data=feishu({**message, "token": "no"})[0]).status_code == 401
    assert make.rows(Event) == []
    body, headers = feishu({"header": {"event_id": "e1", "event_type": "a.b_v1"}, "event": {}})
    answer = client.post(door, data=body, headers=headers)
    assert answer.get_json() == {"msg": "success"}
    assert [event.type for event in make.rows(Event)] == ["feishu.a.b_v1"]


def test_a_handshake_of_another_key_is_told_to_the_owner(client):
    source, door = opened(FEISHU, {"encrypt_key": "other", "token": "vt"})
    message = {"type": "url_verification", "token": "vt", "challenge": "c-1"}
    assert client.post(door, data=feishu(message)[0]).status_code == 401
    row = noted(source)
    assert "cannot be opened" in row.latest[0]["say"]["en"]
    assert row.latest[0]["code"] == "signature_mismatch"


def test_an_answer_with_steps_is_sealed_anew(client):
    options = copy.deepcopy(OPTIONS)
    options["ack"] = {
        "steps": [
            {"as": "framed", "frame": "success", "rest": "${settings.receiver}"},
            {"as": "answer", "encrypt": "aes_cbc", "key": "${secret.aes_key}",
             "key_is": "base64_43", "iv_is": "key_head", "pad": 32, "of": "${framed}"},
            {"as": "stamp", "time": "s"},
            {"as": "fresh_nonce", "random": 8},
            {"as": "both",
             "sorted": ["${secret.token}", "${stamp}", "${fresh_nonce}", "${answer}"]},
            {"as": "answer_mac", "hash": "sha1", "of": "${both}"},
        ],
        "json": {"msg_signature": "${answer_mac}", "timeStamp": "${stamp}",
                 "nonce": "${fresh_nonce}", "encrypt": "${answer}"},
    }  # fmt: skip
    _, door = opened(options)
    query, body = sealed()
    said = client.post(f"{door}?{query}", data=body).get_json()
    kit = WeChatCrypto("tok", AES_KEY, "corp1")
    sent = {"Encrypt": said["encrypt"]}
    assert kit.decrypt_message(sent, said["msg_signature"], said["timeStamp"], said["nonce"]) == (
        "success"
    )


def test_old_values_go_on_for_a_while(client, monkeypatch):
    source, door = opened()
    make.in_transaction(lambda s: fillings.renew(s, "org_a", source.id, {"token": "new"}))
    intake.forget()
    for token, status in (("tok", 200), ("new", 200), ("else", 401)):
        query, body = sealed(token=token, nonce=token)
        assert client.post(f"{door}?{query}", data=body).status_code == status
    (row,) = make.rows(Source)
    assert fillings.get(row) == {**FILLED, "token": "new"}
    make.in_transaction(lambda s: fillings.renew(s, "org_a", source.id, {"receiver": "corp2"}))
    intake.forget()
    for token, receiver in (("tok", "corp1"), ("new", "corp2"), ("tok", "corp2")):
        query, body = sealed(token=token, receiver=receiver)
        assert client.post(f"{door}?{query}", data=body).status_code == 200
    later = clock.now() + timedelta(hours=25)
    monkeypatch.setattr(clock, "now", lambda: later)
    intake.forget()
    query, body = sealed(at=later)
    assert client.post(f"{door}?{query}", data=body).status_code == 401


ONCE = {
    "secrets": {"key": {"title": SAY}},
    # a signature that leaves the content out, as some senders have it
    "steps": [
        {"fresh": "${query.timestamp}", "within_seconds": 300},
        {"as": "all", "sorted": ["${secret.key}", "${query.timestamp}", "${query.nonce}"]},
        {"as": "mac", "hash": "sha1", "of": "${all}"},
        {"equal": ["${mac}", "${query.signature}"]},
    ],
    "once": "${query.nonce}",
    "type": {"value": "app.thing"},
}


def test_a_word_is_good_for_one_message(post):
    source, door = opened(ONCE, {"key": "k"})
    stamp = str(int(clock.now().timestamp()))

    def query(nonce):
        mac = hashlib.sha1("".join(sorted(["k", stamp, nonce])).encode()).hexdigest()
        return urlencode({"timestamp": stamp, "nonce": nonce, "signature": mac})

    assert post(door, query("n1"), b'{"a":1}').status_code == 202
    # the sender's own repetition is a copy; somebody else's use of the word is refused
    again = post(door, query("n1"), b'{"a":1}')
    assert (again.status_code, again.get_json()["accepted"][0]["duplicate"]) == (202, True)
    assert post(door, query("n1"), b'{"a":2}').status_code == 401
    assert post(door, query("n2"), b'{"a":2}').status_code == 202
    assert len(make.rows(Event)) == 2
    assert noted(source).latest[0]["code"] == "signature_reused"


def test_words_of_other_sources_and_days_do_not_matter(post, monkeypatch):
    monkeypatch.setattr(nonces, "_SWEEPS", "")
    for organization_id, source_id in (("org_a", "src_1"), ("org_a", "src_2"), ("org_b", "src_1")):
        nonces.use(organization_id, source_id, "n", b"1")
    with pytest.raises(recipes.Refused):
        nonces.use("org_a", "src_1", "n", b"2")
    later = clock.now() + timedelta(hours=25)
    monkeypatch.setattr(clock, "now", lambda: later)
    nonces.use("org_a", "src_3", "other", b"2")
    assert len(make.rows(Nonce)) == 2, "what is old goes, of one's own organization"


def test_a_word_needs_a_time():
    options = {**ONCE, "steps": ONCE["steps"][1:]}
    assert [place for place, _ in checks.check_options(options)] == ["/once"]


def test_what_breaks_its_type_is_kept_and_still_acknowledged(client):
    options = {**OPTIONS, "type": {"value": "order.paid"}}
    _, door = opened(options)
    query, body = sealed()
    answer = client.post(f"{door}?{query}", data=body)
    assert (answer.status_code, answer.data) == (200, b"success")
    (event,) = make.rows(Event)
    assert event.state == "rejected"


@pytest.mark.parametrize(
    "filled", [{}, {**FILLED, "aes_key": "short"}, {**FILLED, "more": "x"}, {**FILLED, "token": ""}]
)
def test_what_is_filled_in_is_checked(filled):
    with pytest.raises(Invalid) as refused:
        opened(filled=filled)
    assert refused.value.errors[0]["pointer"].startswith("/filled/")


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"steps": []}, "/steps"),
        ({"steps": [{"as": "x", "text": "${body}"}]}, "/steps"),
        ({"steps": [*vectors.XML, {"as": "y", "text": "${secret.other}"}]}, "/steps/9/text"),
        ({"body": "${nothing}"}, "/body"),
        ({"ack": {"status": 500, "text": ""}}, "/ack/status"),
        ({"ack": {"text": "a", "json": {}}}, "/ack"),
        ({"ack": {"json": {"a": ["${nothing}"]}}}, "/ack/json/a/0"),
        ({"refuse": {"status": 200}}, "/refuse/status"),
        ({"handshake": [{"when": {"method": "GET"}, "steps": []}]}, "/handshake/0"),
        ({"secrets": {"token": {}}}, "/secrets/token"),
        ({"secrets": {"token": {"title": SAY, "pattern": "(a+)+$"}}}, "/secrets/token/pattern"),
        ({"at": {"value": "${event.T}", "unit": "weeks"}}, "/at/unit"),
        ({"strange": 1}, "/strange"),
    ],
)
def test_recipes_are_checked(change, pointer):
    found = [place for place, _ in checks.check_options({**OPTIONS, **change})]
    assert pointer in found


def test_the_recipes_of_these_tests_are_good():
    assert checks.check_options(OPTIONS) == []
    assert checks.check_options(FEISHU) == []


@pytest.fixture
def integrator(client):
    return make.seat_of_integrator(client)


def test_over_the_api(client, integrator):
    client.environ_base["HTTP_X_CSRF_TOKEN"] = identity.csrf_of(client, "/sources")
    client.environ_base["HTTP_ACCEPT"] = "application/json"
    listed = client.get("/api/v1/source-offers").get_json()
    known = {one["key"]: one for one in listed["items"]}
    assert [ask["name"] for ask in known["youzan"]["asks"]] == ["client_id", "client_secret"]
    body = {"name": "有赞", "offer": "youzan", "filled": {"client_id": "cid"}}
    answer = client.post("/api/v1/sources", json=body)
    assert answer.status_code == 422
    assert answer.get_json()["errors"][0]["pointer"] == "/filled/client_secret"
    body["filled"]["client_secret"] = "csec"
    made = client.post("/api/v1/sources", json=body).get_json()
    assert made["filled"] == body["filled"]
    door = "/in/" + made["url"].rsplit("/", 1)[1]
    raw = vectors.YOUZAN_PUSH["body"]
    answer = client.post(door, data=raw, headers={"Event-Sign": "9625b8edb84d5464a204f20637a70505"})
    assert answer.get_json() == {"code": 0, "msg": "success"}
    assert client.post(door, data=raw, headers={"Event-Sign": "0" * 32}).status_code == 401
    answer = client.post(
        f"/api/v1/sources/{made['id']}/renew-values", json={"filled": {"client_secret": "new"}}
    )
    assert answer.get_json()["filled"]["client_secret"] == "new"
    assert "csec" not in client.get(f"/api/v1/sources/{made['id']}").get_data(as_text=True)
    own = client.post("/api/v1/sources", json={"name": "x", "scheme": "recipe",
                      "scheme_options": {"steps": []}})  # fmt: skip
    assert own.get_json()["errors"][0]["pointer"] == "/scheme_options/steps"


def test_on_pages(client, integrator):
    client.environ_base["HTTP_X_CSRF_TOKEN"] = identity.csrf_of(client, "/sources")
    assert "有赞" in client.get("/sources/new?lang=zh").get_data(as_text=True)
    form = client.get("/sources/new?offer=wechat-official&lang=zh").get_data(as_text=True)
    assert "EncodingAESKey" in form
    values = {"offer": "wechat-official", "name": "", "filled_token": "abc",
              "filled_aes_key": "short", "filled_receiver": "wx1"}  # fmt: skip
    answer = client.post("/sources", data=values)
    assert answer.status_code == 422
    assert "格式不对" in answer.get_data(as_text=True)
    page = client.post("/sources", data={**values, "filled_aes_key": AES_KEY})
    assert page.status_code == 200
    (source,) = make.rows(Source)
    assert fillings.get(source) == {"token": "abc", "aes_key": AES_KEY, "receiver": "wx1"}
    shown = client.get(f"/sources/{source.id}").get_data(as_text=True)
    assert AES_KEY not in shown
    assert "filled_token" in shown
    client.post(f"/sources/{source.id}/renew-values", data={"filled_token": "abcd"})
    (source,) = make.rows(Source)
    assert fillings.get(source)["token"] == "abcd"
    answer = client.post(f"/sources/{source.id}/rotate-secret")
    assert answer.status_code == 422


@pytest.mark.parametrize("offer", offers._own(), ids=lambda offer: offer.key)
def test_own_offers_are_good(offer):
    assert checks.check_options(offer.scheme_options) == []


def offered(key, filled):
    """A source for a known sender; gives its door."""
    values = offers.values_of(key)
    source = make.in_transaction(
        lambda session: make.make_source(session, "org_a", filled=filled, **values)
    )
    intake.forget()
    return door_of(source)


def test_an_official_account(client):
    door = offered("wechat-official", {"token": "tok", "aes_key": AES_KEY, "receiver": "wx1"})
    stamp = str(int(clock.now().timestamp()))
    mac = hashlib.sha1("".join(sorted(["tok", stamp, "n1"])).encode()).hexdigest()
    check_signature("tok", mac, stamp, "n1")  # the kit agrees
    query = {"timestamp": stamp, "nonce": "n1", "signature": mac}
    assert client.get(f"{door}?{urlencode({**query, 'echostr': 'e'})}").data == b"e"
    kit = OfficialCrypto("tok", AES_KEY, "wx1")
    message = (
        "<xml><MsgType>event</MsgType><Event>subscribe</Event><FromUserName>o</FromUserName></xml>"
    )
    body = kit.encrypt_message(message, "n1", stamp)
    sealed_mac = recipes.read_xml(body.encode())["MsgSignature"]
    query = urlencode({**query, "encrypt_type": "aes", "msg_signature": sealed_mac})
    assert client.post(f"{door}?{query}", data=body).data == b"success"
    assert [event.type for event in make.rows(Event)] == ["wechat_official.event.subscribe"]
    plain = client.post(f"{door}?{query}", data=message)  # what plain mode would send
    assert plain.status_code == 401


def test_tencent_e_sign(client):
    key = "0123456789abcdef0123456789abcdef"
    door = offered("tencent-ess", {"token": "tok", "key": key})
    text = b'{"MsgId":"m1","MsgType":"FlowStatusChange","MsgData":{"FlowCallbackStatus":4}}'
    text += bytes([16 - len(text) % 16]) * (16 - len(text) % 16)
    encryptor = Cipher(algorithms.AES(key.encode()), modes.CBC(key[:16].encode())).encryptor()
    body = base64.b64encode(encryptor.update(text) + encryptor.finalize())
    mac = "sha256=" + hmac.new(b"tok", body, hashlib.sha256).hexdigest()
    answer = client.post(door, data=body, headers={"Content-Signature": mac})
    assert answer.status_code == 200
    (event,) = make.rows(Event)
    assert (event.type, event.dedupe_key) == ("ess.FlowStatusChange", "message:m1")
    assert client.post(door, data=body).status_code == 401


def test_esign(client):
    door = offered("esign", {"app_secret": "sec"})
    body = b'{"action":"SIGN_FLOW_COMPLETE","signFlowId":"f1","signFlowStatus":"2"}'
    mac = hmac.new(b"sec", b"1700000000000" + b"1" + b"2" + body, hashlib.sha256).hexdigest()
    headers = {"X-Tsign-Open-TIMESTAMP": "1700000000000", "X-Tsign-Open-SIGNATURE": mac}
    answer = client.post(f"{door}?b=2&a=1", data=body, headers=headers)
    assert answer.get_json() == {"code": "200", "msg": "success"}
    assert [event.type for event in make.rows(Event)] == ["esign.SIGN_FLOW_COMPLETE"]
    assert client.post(f"{door}?b=1&a=2", data=body, headers=headers).status_code == 401


def test_an_apps_own_offer_stands_for_ours(monkeypatch):
    mine = offers.Offer("youzan", SAY, SAY, "recipe", {}, {})
    monkeypatch.setattr(offers, "MORE", [lambda: [mine]])
    assert [offer for offer in offers.listing() if offer.key == "youzan"] == [mine]


def test_a_plainly_signing_sender_takes_the_apps_own_secret(client, integrator, monkeypatch):
    options = {"header": "x-signature", "algorithm": "sha256", "encoding": "hex"}
    mine = offers.Offer("plain", SAY, SAY, "hmac", options, {"from": "fixed", "value": "a.b"})
    monkeypatch.setattr(offers, "MORE", [lambda: [mine]])
    token = identity.csrf_of(client, "/sources")
    form = client.get("/sources/new?offer=plain").get_data(as_text=True)
    assert 'name="secret"' in form
    values = {"offer": "plain", "secret": "secret-of-the-app", "csrf_token": token}
    assert client.post("/sources", data=values).status_code == 200
    (source,) = make.rows(Source)
    assert sources.secret_of(source) == "secret-of-the-app"

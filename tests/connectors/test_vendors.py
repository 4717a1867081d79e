"""Library connectors that sign: their own manifests against agreed values and vendors' kits."""

import hashlib
import hmac
import json
import types
from datetime import UTC, datetime
from urllib.parse import parse_qsl, urlsplit

import pytest
from factories import apps
from factories.identity import make_organization
from k3cloud_webapi_sdk.core.webapi_client import WebApiClient
from k3cloud_webapi_sdk.model.identity import Identify
from nuonuo import signing as nuonuo_signing
from tencentcloud.common.sign import Sign as TencentSign

from connectors import connection_checks, connections, tokens
from connectors.engine import loader, looks, requests
from connectors.engine.connector import ConnectionValues
from kernel import documents
from kernel.database import EVERY, reading, transaction
from kernel.http import Response

AT = datetime.fromtimestamp(1_700_000_000, UTC)


def sample(key, action):
    return loader.find(key).actions[action].sample["input"]


def form(request):
    return dict(parse_qsl(request.body.decode(), keep_blank_values=True))


KINGDEE = ConnectionValues(
    {"server_url": "https://example.ik3cloud.com/k3cloud"},
    "app",
    {
        "app_id": "204399_72epSbtEQMC92Vwt2d3LRa9LRqSc1tqJ",
        "app_secret": "fb7d46647ac346dbb5fcd45b65512a45",
        "account": "DC01",
        "user": "apiuser",
    },
    moment=AT,
    random=bytes([1, 7, 0, 0, 0, 0, 0, 0, 0, 0]),
)


def test_kingdee_makes_the_headers_of_its_kit(monkeypatch):
    built = requests.build(
        loader.find("kingdee-k3cloud"), "view_bill", sample("kingdee-k3cloud", "view_bill"),
        KINGDEE, "k",
    )  # fmt: skip
    ours = {name.lower(): value for name, value in built.headers.items()}
    assert ours["x-api-signature"] == (
        "NDkzNDliNDk2YjBhYjU1N2Y3ODIwYmIzODhkMzRhMmMwYTBjYzI3MDkwOTA3ZGIyYjNiZWY5M2EzZDE1OGUwMg=="
    )
    kit = WebApiClient()
    fields = KINGDEE.fields
    kit.identify = Identify(
        KINGDEE.settings["server_url"], fields["account"], fields["user"], fields["app_id"],
        fields["app_secret"], "0", 2052, "",
    )  # fmt: skip
    fixed = types.SimpleNamespace(time=lambda: 1.7e9)
    monkeypatch.setattr("k3cloud_webapi_sdk.core.webapi_client.time", fixed)
    theirs = kit.BuildHeader(built.url)
    assert {name.lower() for name in theirs} & set(ours) >= {"x-api-signature", "x-kd-signature"}
    for name, value in theirs.items():
        if name.lower().startswith("x-"):
            assert ours[name.lower()] == value, name


def test_kingdee_signs_with_the_language_and_organization_that_were_given():
    fields = {**KINGDEE.fields, "language": "1033", "organization": "100"}
    values = ConnectionValues(KINGDEE.settings, "app", fields, moment=AT, random=b"1")
    given = sample("kingdee-k3cloud", "view_bill")
    built = requests.build(loader.find("kingdee-k3cloud"), "view_bill", given, values, "k")
    import base64

    assert base64.b64decode(built.headers["X-Kd-Appdata"]) == b"DC01,apiuser,1033,100"


def test_a_kingdee_bill_is_looked_up_by_the_number_it_will_get():
    connector = loader.find("kingdee-k3cloud")
    action, given = connector.actions["save_bill"], sample("kingdee-k3cloud", "save_bill")
    key = "eff_" + "0123456789abcdef" * 3
    sent = documents.parse(requests.build(connector, "save_bill", given, KINGDEE, key).body)
    number = sent["data"]["Model"]["FBillNo"]
    look = documents.parse(looks.build(connector, action, given, KINGDEE, key).body)
    assert look["data"]["FilterString"] == f"FBillNo = '{number}'"
    there = documents.dump([{"FID": 7, "FBillNo": number}])
    found = looks.read(connector, action, given, KINGDEE, key, response(there))
    assert (found.kind, found.output) == ("ok", {"id": 7, "number": number})
    assert looks.read(connector, action, given, KINGDEE, key, response(b"[]")) is None
    no = b'[[{"Result": {"ResponseStatus": {"IsSuccess": false, "Errors": [{"Message": "x"}]}}}]]'
    assert looks.read(connector, action, given, KINGDEE, key, response(no)).kind == "fail"


def response(body: bytes) -> Response:
    return Response(200, {}, body, truncated=False, elapsed_ms=1)


def test_jushuitan_signs_every_parameter_but_the_signature():
    fields = {"app_key": "app", "app_secret": "secret"}
    values = ConnectionValues({}, "own", fields, {"access": "tok"}, AT, b"r")
    connector = loader.find("jushuitan")
    sent = form(requests.build(connector, "query_stock", {"sku_ids": "中文"}, values, "k"))
    said = "".join(f"{k}{v}" for k, v in sorted(sent.items()) if k != "sign")
    assert sent["sign"] == hashlib.md5(b"secret" + said.encode()).hexdigest()
    assert sent["access_token"] == "tok"
    token = form(requests.build_token(connector, values))
    said = "".join(f"{k}{v}" for k, v in sorted(token.items()) if k != "sign")
    assert token["sign"] == hashlib.md5(b"secret" + said.encode()).hexdigest()
    assert "access_token" not in token
    assert len(token["code"]) == 6


def test_nuonuo_signs_as_its_kit_does():
    fields = {"app_key": "app", "app_secret": "secret"}
    settings = {"gateway": "https://sdk.nuonuo.com", "seller_tax_number": "339902999999789113"}
    values = ConnectionValues(settings, "own", fields, {"access": "tok"}, AT, b"random")
    given = sample("nuonuo", "request_invoice")
    built = requests.build(loader.find("nuonuo"), "request_invoice", given, values, "k")
    query = dict(parse_qsl(urlsplit(built.url).query))
    assert built.headers["X-Nuonuo-Sign"] == nuonuo_signing.sign(
        "secret", "app", query["senid"], query["nonce"], built.body.decode(), query["timestamp"]
    )
    assert built.headers["accessToken"] == "tok"


def test_baiwang_signs_query_and_body():
    """The rule written out by hand; its constant was made once with another program (openssl)."""
    fields = {"app_key": "k", "app_secret": "s", "username": "u", "password": "p", "salt": "x"}
    settings = {"gateway": "https://openapi.baiwang.com", "tax_number": "1", "version": "6.0"}
    values = ConnectionValues(settings, "own", fields, {"access": "t"}, AT, b"random")
    built = requests.build(loader.find("baiwang"), "query_terminals", {}, values, "k")
    query = dict(parse_qsl(urlsplit(built.url).query))
    assert query["type"] == "sync"
    assert query["token"] == "t"
    assert built.body == b'{"taxNo":"1"}'

    def signed(query, body):
        said = "".join(f"{k}{v}" for k, v in sorted(query.items()) if k != "sign" and v)
        return hashlib.md5(b"s" + said.encode() + body + b"s").hexdigest().upper()

    assert query["sign"] == signed(query, built.body)
    known = {"appKey": "k", "timestamp": "1700000000000", "requestId": "r", "token": "t"}
    known |= {"type": "sync", "method": "baiwang.output.invoice.issue", "version": "6.0"}
    known |= {"format": "json"}
    assert signed(known, b'{"taxNo":"1"}') == "9EBFA8E4E56AA9C17714844FFA33909A"
    token = requests.build_token(loader.find("baiwang"), values)
    sent = json.loads(token.body)
    assert sent["password"] == hashlib.sha256(b"px").hexdigest()
    assert b'"p"' not in token.body
    assert "sign" not in dict(parse_qsl(urlsplit(token.url).query))


def test_yonsuite_signs_the_parameters_of_the_token():
    fields = {"app_key": "fbb5f5b6-21fb-4156-8b73-3ec3ac389ab7", "app_secret": "testsecret"}
    addresses = {"gateway": "https://c2.example.com/g", "token_address": "https://c2.example.com/a"}
    at = datetime.fromtimestamp(1547192727.928, UTC)
    values = ConnectionValues(addresses, "own", fields, None, at, None)
    built = requests.build_token(loader.find("yonsuite"), values)
    query = dict(parse_qsl(urlsplit(built.url).query))
    assert query["timestamp"] == "1547192727928"
    assert query["signature"] == "ldlK2Op9/Al2IfyqXH0fJgGq8vVY2k+UkjmJaPKrX3Q="
    assert "%252F" not in built.url  # encoded once


@pytest.mark.parametrize(
    ("action", "host"),
    [("get_flows", "ess.tencentcloudapi.com"), ("upload_file", "file.ess.tencent.cn")],
)
def test_tencent_signs_as_its_kit_does(action, host):
    fields = {"secret_id": "the-id", "secret_key": "the-key"}
    values = ConnectionValues({"operator_id": "op"}, "keys", fields, moment=AT)
    connector, given = loader.find("tencent-ess"), sample("tencent-ess", action)
    built = requests.build(connector, action, given, values, "k")
    assert built.url == f"https://{host}/"
    body = hashlib.sha256(built.body).hexdigest()
    canonical = (
        f"POST\n/\n\ncontent-type:application/json\nhost:{host}\n\ncontent-type;host\n{body}"
    )
    hashed = hashlib.sha256(canonical.encode()).hexdigest()
    said = f"TC3-HMAC-SHA256\n1700000000\n2023-11-14/ess/tc3_request\n{hashed}"
    signature = TencentSign.sign_tc3("the-key", "2023-11-14", "ess", said)
    assert built.headers["Authorization"].endswith(f"Signature={signature}")


def test_taobao_signs_every_filled_parameter_in_order():
    fields = {"client_id": "12345678", "client_secret": "helloworld"}
    values = ConnectionValues({}, "shop", fields, {"access": "test"}, AT)
    given = sample("taobao-top", "get_changed_trades")
    sent = form(requests.build(loader.find("taobao-top"), "get_changed_trades", given, values, "k"))
    said = "".join(f"{k}{v}" for k, v in sorted(sent.items()) if k != "sign" and v)
    assert sent["timestamp"] == "2023-11-15 06:13:20"
    assert sent["session"] == "test"
    assert sent["sign"] == hmac.new(b"helloworld", said.encode(), "sha256").hexdigest().upper()


def test_esign_signs_the_address_it_calls():
    import base64

    fields = {"app_id": "app", "app_secret": "secret"}
    values = ConnectionValues({"gateway": "https://openapi.esign.cn"}, "app", fields, None, AT)
    connector = loader.find("esign")
    for action, digest in (("get_file", b""), ("urge_flow", hashlib.md5(b"{}").digest())):
        built = requests.build(connector, action, sample("esign", action), values, "k")
        target = built.url.removeprefix("https://openapi.esign.cn")
        said = "\n".join(
            [
                built.method, "*/*", base64.b64encode(digest).decode(),
                "application/json; charset=UTF-8", "", target,
            ]
        )  # fmt: skip
        mac = base64.b64encode(hmac.digest(b"secret", said.encode(), "sha256")).decode()
        assert built.headers["X-Tsign-Open-Ca-Signature"] == mac
        assert "X-Tsign-Open-Ca-Timestamp" in built.headers


class Fadada:
    """Takes what is signed by the rule of FASC 5.1, with a token it gave itself."""

    def __init__(self):
        self.given, self.good = 0, ""

    def __call__(self, call):
        names = {name: f"X-FASC-{name}" for name in (
            "App-Id", "Sign-Type", "Timestamp", "Nonce", "AccessToken", "Api-SubVersion",
            "Grant-Type",
        )}  # fmt: skip
        signed = {
            whole: call.headers[whole.lower()]
            for whole in names.values()
            if call.headers.get(whole.lower())
        }
        signed |= {name: value for name, value in call.form.items() if value}
        said = "&".join(f"{name}={value}" for name, value in sorted(signed.items()))
        key = hmac.digest(b"the-secret", call.headers["x-fasc-timestamp"].encode(), "sha256")
        digest = hashlib.sha256(said.encode()).hexdigest().encode()
        if call.headers["x-fasc-sign"] != hmac.new(key, digest, hashlib.sha256).hexdigest():
            return 200, {"code": "100012", "msg": "sign"}
        if call.path.endswith("/get-access-token"):
            self.given += 1
            self.good = f"tok-{self.given}"
            return 200, {"code": "100000", "data": {"accessToken": self.good, "expiresIn": "7200"}}
        if call.headers["x-fasc-accesstoken"] != self.good:
            return 401, {"code": "100002", "msg": "token"}
        return 200, {"code": "100000", "msg": "ok", "data": {"signTaskStatus": "task_created"}}


def test_fadada_takes_what_the_hub_sends(database):
    app = Fadada()
    with apps.serve(app) as served:
        with transaction(EVERY) as session:
            owner = make_organization(session).id
            one = connections.create(
                session, owner, "fadada", settings={"gateway": f"{served.url}/api/v5"},
                fields={"app_id": "A", "app_secret": "the-secret"},
            ).id  # fmt: skip
        assert connection_checks.test(owner, one).problem is None
        with reading(EVERY) as session:
            opened = connections.open_connection(connections.find(session, owner, one))
        ready = tokens.ensure(opened)
        from kernel import http

        given = sample("fadada", "get_task")
        request = requests.build(ready.connector, "get_task", given, ready.values, "k")
        answer = http.send(request)
        assert documents.parse(answer.body)["code"] == "100000", answer
        app.good = "another"
        assert http.send(request).status == 401
        assert tokens.ensure(ready, stale=True).values.token["access"] == "tok-2"


def test_fadada_refuses_a_wrong_secret_in_its_words(database):
    with apps.serve(Fadada()) as served:
        with transaction(EVERY) as session:
            owner = make_organization(session).id
            one = connections.create(
                session, owner, "fadada", settings={"gateway": f"{served.url}/api/v5"},
                fields={"app_id": "A", "app_secret": "another"},
            ).id  # fmt: skip
        tried = connection_checks.test(owner, one)
        assert (tried.state, tried.problem["cause"]) == ("needs_attention", "auth")
        assert tried.problem["detail"] == "sign"

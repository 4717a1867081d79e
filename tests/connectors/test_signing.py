"""Signed requests: check values, and the vendors' own kits as the other side."""

import hashlib
import re
import types
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from factories import apps
from hypothesis import given, settings
from hypothesis import strategies as st
from k3cloud_webapi_sdk.core.webapi_client import WebApiClient
from k3cloud_webapi_sdk.model.identity import Identify
from k3cloud_webapi_sdk.util import hmac_util
from nuonuo import signing as nuonuo_signing
from tencentcloud.common.sign import Sign as TencentSign
from wechatpayv3.utils import build_authorization

from connectors.engine import check, requests
from connectors.engine.auth import CannotBuild
from connectors.engine.connector import ConnectionValues
from kernel import documents

WAYS = {
    path.stem: path.read_text() for path in (Path(__file__).parent / "signatures").glob("*.yaml")
}
AT = datetime.fromtimestamp(1_700_000_000, UTC)
HERE = "https://api.made-up.example"


def connection(fields, moment=AT, random=b"n", base=HERE, token=None):
    return ConnectionValues({"base_url": base}, None, fields, token, moment, random)


def action(body: str, method: str = "POST", path: str = "/router") -> str:
    return f"""
do:
  title: {{zh: 做, en: Do}}
  effect: read
  input: {{type: object}}
  output: {{}}
  request:
    method: {method}
    path: {path}
    {body}
  sample: {{input: {{}}, output: {{}}}}
"""


@pytest.fixture
def built(tmp_path):
    """Build the request of a made-up app that signs in some way."""

    def build(way, body, values, given=None, **where):
        made = apps.connector(tmp_path, WAYS.get(way, way), action(body, **where))
        assert check.c01_manifest(folder(made, tmp_path)) == []
        return requests.build(made, "do", given or {}, values, "effect")

    return build


def folder(made, tmp_path):
    from connectors.engine import loader

    found = object.__new__(check.Folder)
    found.path, found.connector = tmp_path / "made-up", made
    found.manifest = loader.read_manifest(found.path)
    return found


def form(request):
    return apps.Call("", "", {}, {}, request.body).form


def query(request):
    from urllib.parse import parse_qsl, urlsplit

    return dict(parse_qsl(urlsplit(request.url).query))


def test_taobao_wraps_the_sorted_parameters_in_the_secret(built):
    at = datetime(2016, 1, 1, 4, 0, 0, tzinfo=UTC)  # noon in China
    fields = {"app_key": "12345678", "app_secret": "helloworld", "session": "test"}
    body = (
        'form: {method: taobao.item.seller.get, fields: "${input.fields}", num_iid: "${input.id}"}'
    )
    given = {"id": 11223344, "fields": "num_iid,title,nick,price,num"}
    request = built("top", body, connection(fields, at), given)
    assert form(request)["timestamp"] == "2016-01-01 12:00:00"
    assert form(request)["sign"] == "66987CB115214E59E6EC978214934FB8"
    assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"


def test_jushuitan_puts_the_secret_in_front(built):
    fields = {"app_key": "app", "app_secret": "secret"}
    at = datetime.fromtimestamp(100, UTC)
    request = built("jushuitan", "form: {}", connection(fields, at))
    assert form(request) == {
        "app_key": "app",
        "charset": "utf-8",
        "timestamp": "100",
        "sign": "706427ca94e342781ac36d501151cb10",
    }


def test_robots_sign_the_time(built):
    import base64
    import hmac

    at = datetime.fromtimestamp(1_599_360_473, UTC)
    request = built("feishu-robot", "json: {msg_type: text}", connection({"secret": "demo"}, at))
    assert documents.parse(request.body) == {
        "msg_type": "text",
        "timestamp": "1599360473",
        "sign": "l1N0gAcBjdwBvGm1xMjOF0XSyaLRpR7tuO5dHfhAYc8=",
    }
    request = built("dingtalk-robot", "json: {msgtype: text}", connection({"secret": "SEC1"}))
    mac = hmac.new(b"SEC1", b"1700000000000\nSEC1", hashlib.sha256).digest()
    assert query(request) == {"timestamp": "1700000000000", "sign": base64.b64encode(mac).decode()}
    assert re.search(r"sign=[A-Za-z0-9%]+$", request.url), "percent-encoded, no bare + or /"


KINGDEE_PATH = "/Kingdee.BOS.WebApi.ServicesStub.DynamicFormService.View.common.kdsvc"
KINGDEE_FIELDS = {
    "app_id": "204399_72epSbtEQMC92Vwt2d3LRa9LRqSc1tqJ",
    "app_secret": "fb7d46647ac346dbb5fcd45b65512a45",
    "account": "DC01",
    "user": "apiuser",
}


def test_kingdee_gives_the_agreed_value_and_its_kit_the_same(built, monkeypatch):
    values = connection(KINGDEE_FIELDS, base=f"{HERE}/k3cloud")
    body = "json: {formid: BD_Customer}"
    sent = built("kingdee", body, values, path=KINGDEE_PATH).headers
    assert sent["X-Api-Signature"] == (
        "NDkzNDliNDk2YjBhYjU1N2Y3ODIwYmIzODhkMzRhMmMwYTBjYzI3MDkwOTA3ZGIyYjNiZWY5M2EzZDE1OGUwMg=="
    )
    assert sent["X-Kd-Signature"] == (
        "MzJhM2M2YTQ1YTM4OWJiYTFhNWYwM2UxZTBkMTM5NTJiMTYzNzlmNzc2ODdiMDFmZTM4MTM4ZTJhZTBhMTA1Mg=="
    )
    kit = WebApiClient()
    kit.identify = Identify(
        f"{HERE}/k3cloud", "DC01", "apiuser", KINGDEE_FIELDS["app_id"],
        KINGDEE_FIELDS["app_secret"], "0", 2052, "",
    )  # fmt: skip
    monkeypatch.setattr(
        "k3cloud_webapi_sdk.core.webapi_client.time", types.SimpleNamespace(time=lambda: 1.7e9)
    )
    theirs = kit.BuildHeader(f"{HERE}/k3cloud{KINGDEE_PATH}")
    ours = {name.lower(): value for name, value in sent.items()}
    for name in theirs:
        if name.lower().startswith("x-"):
            assert ours[name.lower()] == theirs[name], name
    assert hmac_util.HmacSHA256("a", "b")  # the kit's own, not a stand-in


def test_tencent_signs_as_its_kit_does(built):
    fields = {"secret_id": "the-id", "secret_key": "the-key"}
    body = 'headers: {Content-Type: application/json}\n    json: {FlowIds: ["中文 1"]}'
    request = built("tc3", body, connection(fields), path="/")
    host = "api.made-up.example"
    canonical = "\n".join(
        [
            "POST", "/", "", f"content-type:application/json\nhost:{host}\n", "content-type;host",
            hashlib.sha256(request.body).hexdigest(),
        ]
    )  # fmt: skip
    day = "2023-11-14"
    to_sign = "\n".join(
        [
            "TC3-HMAC-SHA256", "1700000000", f"{day}/ess/tc3_request",
            hashlib.sha256(canonical.encode()).hexdigest(),
        ]
    )  # fmt: skip
    theirs = TencentSign.sign_tc3("the-key", day, "ess", to_sign)
    assert request.headers["Authorization"] == (
        f"TC3-HMAC-SHA256 Credential=the-id/{day}/ess/tc3_request, "
        f"SignedHeaders=content-type;host, Signature={theirs}"
    )


def test_esign_signs_method_digest_and_address(built):
    fields = {"app_id": "app", "app_secret": "secret"}
    request = built(
        "esign", "json: {a: 1}", connection(fields), path="/v3/sign-flow/create-by-file"
    )
    assert request.headers["Content-MD5"] == "u2y1xo30ZSlByvZSo2by2A=="
    signature = request.headers["X-Tsign-Open-Ca-Signature"]
    assert signature == "zyuzOdsFgvREoutcc6rz8Ngz3xmSRCuoCaDE53AwMdY="
    request = built("esign", "query: {b: 2}", connection(fields), method="GET", path="/v3/files")
    assert request.headers["Content-MD5"] == ""


def test_fadada_signs_in_two_rounds(built):
    fields = {"app_id": "A", "app_secret": "sec", "access": "tok"}
    request = built("fadada", 'form: {bizContent: "${json(input)}"}', connection(fields), {"a": 1})
    assert form(request) == {"bizContent": '{"a":1}'}
    assert request.headers["X-FASC-Nonce"] == "n"
    assert request.headers["X-FASC-Sign"] == (
        "8aa9376048c1acdfd03238d1a19e27d71131ab0b0f76055c3da47b33ce063a8f"
    )


def test_nuonuo_signs_as_its_kit_does(built):
    fields = {"app_key": "app", "app_secret": "secret"}
    request = built("nuonuo", 'json: {name: "中文"}', connection(fields, random=bytes(range(16))))
    sent = query(request)
    assert re.fullmatch("[0-9a-f]{32}", sent["senid"])
    assert re.fullmatch("[0-9]{8}", sent["nonce"])
    theirs = nuonuo_signing.sign(
        "secret", "app", sent["senid"], sent["nonce"], request.body.decode(), sent["timestamp"]
    )
    assert request.headers["X-Nuonuo-Sign"] == theirs
    agreed = nuonuo_signing.sign(
        "secret", "app", "a" * 32, "12345678", '{"name":"中文"}', "1700000000"
    )
    assert agreed == "4BzcKzrcoqxPis0W/W3X2ae0uIo="


@pytest.fixture(scope="module")
def private_key():
    made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return made.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def test_wechat_pay_signs_as_its_kit_does(built, private_key, monkeypatch):
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    fields = {"mchid": "1900000001", "serial": "4444", "private_key": private_key}
    values = connection(fields, random=b"\x01\x02")
    request = built(
        "wechat-pay",
        'json: {note: "中 文"}\n    query: {mchid: "1 9"}',
        values,
        path="/v3/pay",
    )
    ours = dict(re.findall(r'(\w+)="([^"]*)"', request.headers["Authorization"]))
    monkeypatch.setattr("wechatpayv3.utils.time", types.SimpleNamespace(time=lambda: 1.7e9))
    theirs = build_authorization(
        "/v3/pay?mchid=1%209", "POST", "1900000001", "4444",
        load_pem_private_key(private_key.encode(), None), data=request.body.decode(),
        nonce_str=ours["nonce_str"],
    )  # fmt: skip
    assert request.headers["Authorization"] == theirs


def test_a_key_that_cannot_sign_is_a_matter_of_the_connection(built):
    fields = {"mchid": "1", "serial": "2", "private_key": "not-a-key-0123456789"}
    with pytest.raises(CannotBuild) as refused:
        built("wechat-pay", "json: {}", connection(fields))
    assert refused.value.cause == "auth"
    assert "not-a-key" not in str(refused.value.say)


def test_what_is_signed_is_what_is_sent(built):
    way = """
auth:
  - id: signed
    kind: sign
    title: {zh: 签名, en: Signed}
    fields: {secret: {title: {zh: 密, en: S}, secret: true}}
    sign:
      steps:
        - {as: all, text: "${request.method} ${request.url} ${request.host} ${request.body}"}
        - {as: out, encode: base64url, of: "${all}"}
      put: {header: {X-All: "${out}"}}
http: {base: "${settings.base_url}"}
"""
    import base64

    @settings(max_examples=60, deadline=None)
    @given(st.text(max_size=30), st.text(max_size=30))
    def holds(left, right):
        request = built(
            way,
            'query: {q: "${input.left}"}\n    json: {r: "${input.right}"}',
            connection({"secret": "s"}),
            {"left": left, "right": right},
        )
        said = base64.urlsafe_b64decode(request.headers["X-All"] + "==")
        assert said == b" ".join(
            [b"POST", request.url.encode(), b"api.made-up.example", request.body]
        )

    holds()


def test_a_header_has_one_value_in_whatever_letters_it_is_written(built):
    way = """
auth:
  - id: signed
    kind: sign
    title: {zh: 签名, en: Signed}
    fields: {secret: {title: {zh: 密, en: S}, secret: true}}
    before: {header: {ACCEPT: "*/*"}}
    sign:
      steps: [{as: mac, text: "${request.header.content-type} ${request.header.accept}"}]
      put: {header: {X-Said: "${mac}"}}
http: {base: "${settings.base_url}"}
"""
    body = "headers: {content-type: application/vnd.x+json}\n    json: {a: 1}"
    sent = built(way, body, connection({"secret": "s"})).headers
    assert sent["X-Said"] == "application/vnd.x+json */*"
    assert [name.lower() for name in sent].count("content-type") == 1
    assert [name.lower() for name in sent].count("accept") == 1


@pytest.mark.parametrize(
    ("sign", "words"),
    [
        ('{steps: [{as: mac, hash: md5, of: "${request.boddy}", out: hex}], put: {}}', "boddy"),
        ('{steps: [{as: mac, hash: md6, of: "x", out: hex}], put: {}}', "md5"),
        ('{steps: [{as: a, text: x}], put: {query: {sign: "${mac}"}}}', "mac"),
        ('{steps: [{as: a, text: "${field.nope}"}], put: {}}', "nope"),
        ('{steps: [{as: a, text: "${secret.x}"}], put: {}}', "secret"),
    ],
)
def test_a_signature_that_cannot_be_made_is_told_when_it_is_saved(tmp_path, sign, words):
    way = f"""
auth:
  - id: signed
    kind: sign
    title: {{zh: 签名, en: Signed}}
    fields: {{secret: {{title: {{zh: 密, en: S}}, secret: true}}}}
    sign: {sign}
http: {{base: "${{settings.base_url}}"}}
"""
    made = apps.connector(tmp_path, way)
    found = check.c01_manifest(folder(made, tmp_path))
    assert any(words in one.say["en"] for one in found), found
    assert all(one.line > 0 for one in found)

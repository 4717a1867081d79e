"""Every published vector comes out right, and no byte of it can be another."""

import base64
import json

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.webhooks.recipes import vectors
from webhooks import recipes

NOW = vectors.at(1_700_000_000)


def test_wecom_echo():
    found = recipes.run(vectors.ECHO, vectors.WECOM_ECHO, NOW)
    assert found["plain"]["message"] == b"1616140317555161061"


def test_account_echo():
    found = recipes.run(vectors.ECHO, vectors.ACCOUNT_ECHO, NOW)
    assert found["plain"]["message"] == b"5927782489442352469"


def test_wecom_message():
    event = recipes.run(vectors.XML, vectors.WECOM_MESSAGE, NOW)["event"]
    assert event["Content"] == "hello"
    assert event["MsgType"] == "text"
    assert event["MsgId"] == "4561255354251345929"
    assert event["AgentID"] == "218"


def test_dingtalk():
    event = recipes.run(vectors.JSON, vectors.DINGTALK, NOW)["event"]
    assert event == {"EventType": "check_url"}


def test_dingtalk_suite():
    event = recipes.run(vectors.JSON, vectors.DINGTALK_SUITE, NOW)["event"]
    assert event["EventType"] == "check_create_suite_url"
    assert event["Random"] == "LPIdSnlF"


def test_feishu_opens():
    values = {
        "secret": {"encrypt_key": "test key"},
        "body": b'{"encrypt":"P37w+VZImNgPEO1RBhJ6RtKl7n6zymIbEG1pReEzghk="}',
    }
    assert recipes.run(vectors.FEISHU_OPEN, values, NOW)["plain"] == b"hello world"


def test_robots():
    secret = {"secret": {"secret": "SECtest"}}
    ding = recipes.run(vectors.DINGTALK_ROBOT, secret, NOW)
    assert ding["sign"] == b"aZLLrriXgn05YbwaGR7knYsLeJADjr9NwLaNNKpxh4g="
    lark = recipes.run(vectors.FEISHU_ROBOT, secret, NOW)
    assert lark["sign"] == b"G7XpBpG8NgG02fJOAhX6FRAObIljmFoxVReo8I62pEk="
    demo = recipes.run(
        vectors.FEISHU_ROBOT, {"secret": {"secret": "demo"}}, vectors.at(1_599_360_473)
    )
    assert demo["sign"] == b"l1N0gAcBjdwBvGm1xMjOF0XSyaLRpR7tuO5dHfhAYc8="


def test_top():
    found = recipes.run(vectors.TOP, vectors.TOP_REQUEST, NOW)
    assert found["sign"] == b"66987CB115214E59E6EC978214934FB8"
    short = {"secret": {"key": "sec"}, "form": {"b": "2", "a": "1", "sign": "x", "none": ""}}
    assert recipes.run(vectors.TOP, short, NOW)["sign"] == b"7AB23CC77796A2899E6C5BF5D76D230E"
    assert recipes.run(vectors.TOP_HMAC, short, NOW)["sign"] == b"2B1CD15FCE31890C634E1B3536993605"


def test_youzan():
    recipes.run(vectors.YOUZAN, vectors.YOUZAN_PUSH, NOW)


def test_youzan_application_message():
    secret = "def00000b1228e0f6ba8ef96be9"
    steps = [
        {"as": "sealed", "decode": "percent", "of": "${body}"},
        {"as": "plain", "decrypt": "aes_cbc", "key": secret[:16], "key_is": "text",
         "iv": "0102030405060708", "pad": 16, "of": "${sealed}"},
    ]  # fmt: skip
    around = [
        {"as": "sealed", "encrypt": "aes_cbc", "key": secret[:16], "key_is": "text",
         "iv": "0102030405060708", "pad": 16, "of": '{"appId":110}'},
        {"as": "body", "encode": "percent", "of": "${sealed}"},
    ]  # fmt: skip
    sent = recipes.run(around, {}, NOW)["body"]
    assert recipes.run(steps, {"body": sent}, NOW)["plain"] == b'{"appId":110}'


@pytest.fixture(scope="session")
def pay():
    """A notice as WeChat Pay seals it, made by the cryptography library alone."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    api_key = "0123456789abcdef0123456789abcdef"
    resource = {"out_trade_no": "A1", "amount": {"total": 100}}
    sealed = AESGCM(api_key.encode()).encrypt(
        b"nonce-of-12b", json.dumps(resource).encode(), b"transaction"
    )
    body = json.dumps(
        {"id": "EV-1", "event_type": "TRANSACTION.SUCCESS",
         "resource": {"algorithm": "AEAD_AES_256_GCM", "nonce": "nonce-of-12b",
                      "associated_data": "transaction",
                      "ciphertext": base64.b64encode(sealed).decode()}}
    ).encode()  # fmt: skip
    signed = b"1700000000\nabc\n" + body + b"\n"
    signature = key.sign(signed, padding.PKCS1v15(), hashes.SHA256())
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return {
        "body": body,
        "header": {
            "wechatpay-serial": "PUB_KEY_ID_1", "wechatpay-timestamp": "1700000000",
            "wechatpay-nonce": "abc", "wechatpay-signature": base64.b64encode(signature).decode(),
        },
        "secret": {"api_key": api_key, "public_key": pem.decode(), "public_key_id": "PUB_KEY_ID_1"},
    }  # fmt: skip


def test_wechat_pay(pay):
    event = recipes.run(vectors.WECHAT_PAY, pay, NOW)["event"]
    assert event == {"out_trade_no": "A1", "amount": {"total": 100}}


def test_wechat_pay_is_refused_when_it_is_old(pay):
    with pytest.raises(recipes.Refused) as refused:
        recipes.run(vectors.WECHAT_PAY, pay, vectors.at(1_700_000_301))
    assert refused.value.code == "signature_stale"
    assert refused.value.step == 2


def changed(values):
    """Yield what was sent with each single byte another one."""
    for part in ("query", "header"):
        for name, text in values.get(part, {}).items():
            for index, one in enumerate(text):
                other = text[:index] + ("0" if one != "0" else "1") + text[index + 1 :]
                yield {**values, part: {**values[part], name: other}}
    body = values.get("body", b"")
    for index, one in enumerate(body):
        yield {**values, "body": body[:index] + bytes([one ^ 1]) + body[index + 1 :]}


@pytest.mark.parametrize("name", vectors.ACCEPTED)
def test_no_byte_may_change(name):
    recipe, values = vectors.ACCEPTED[name]
    good = recipes.run(recipe, values, NOW)
    passed, codes = [], set()
    for sent in changed(values):
        try:
            passed.append(recipes.run(recipe, sent, NOW))
        except recipes.Refused as refused:
            codes.add(refused.code)
    assert codes <= {"signature_mismatch", "signature_missing"}
    # letters of the wrapping around what is signed may change, what is read may not
    assert all(found["plain"] == good["plain"] for found in passed if "plain" in good)
    if name == "youzan":
        assert not passed


def test_no_byte_of_a_notice_may_change(pay):
    recipes.run(vectors.WECHAT_PAY, pay, NOW)
    for sent in changed(pay):
        with pytest.raises(recipes.Refused):
            recipes.run(vectors.WECHAT_PAY, sent, NOW)

"""The vendors' own kits on the other side: what they sign we take, what we sign they take."""

import json
import time
from urllib.parse import urlencode

import alipay
import lark_oapi
import pytest
import stripe
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from lark_oapi.core.model import RawRequest
from wechatpayv3 import WeChatPay, WeChatPayType
from wechatpayv3 import utils as pay_utils
from wechatpy.enterprise.crypto import WeChatCrypto
from wechatpy.exceptions import InvalidSignatureException

from tests.webhooks.recipes import vectors
from webhooks import recipes, signing
from webhooks.errors import BadSignature

NOW = vectors.at(1_700_000_000)
AES_KEY = vectors.WECOM["secret"]["aes_key"]


@pytest.fixture(scope="session")
def pair():
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()


@pytest.mark.parametrize("message", ["<xml><A>x</A></xml>", "<xml><A>企业微信 😀</A></xml>"])
def test_wecom_from_the_kit(message):
    kit = WeChatCrypto("tok", AES_KEY, "corp1")
    body = kit.encrypt_message(message, "nonce1", "1700000000").encode()
    signature = recipes.read_xml(body)["MsgSignature"]
    values = {
        "secret": {"token": "tok", "aes_key": AES_KEY},
        "settings": {"receiver": "corp1"},
        "query": {"msg_signature": signature, "timestamp": "1700000000", "nonce": "nonce1"},
        "body": body,
    }
    assert recipes.run(vectors.XML, values, NOW)["plain"]["message"] == message.encode()
    with pytest.raises(recipes.Refused):
        recipes.run(vectors.XML, {**values, "settings": {"receiver": "corp2"}}, NOW)


SEAL = [
    {"as": "stamp", "time": "s"},
    {"as": "nonce", "random": 8, "out": "hex"},
    {"as": "framed", "frame": "${message}", "rest": "${settings.receiver}"},
    {"as": "sealed", "encrypt": "aes_cbc", "key": "${secret.aes_key}", "key_is": "base64_43",
     "iv_is": "key_head", "pad": 32, "of": "${framed}"},
    {"as": "all", "sorted": ["${secret.token}", "${stamp}", "${nonce}", "${sealed}"]},
    {"as": "mac", "hash": "sha1", "of": "${all}"},
]  # fmt: skip


@pytest.mark.parametrize("length", [0, 1, 11, 12, 31, 32, 1000])
def test_wecom_to_the_kit(length):
    values = {
        "secret": {"token": "tok", "aes_key": AES_KEY},
        "settings": {"receiver": "corp1"},
        "message": "x" * length,
    }
    made = recipes.run(SEAL, values, NOW)
    kit = WeChatCrypto("tok", AES_KEY, "corp1")
    sent = {"Encrypt": made["sealed"].decode()}
    mac, nonce = made["mac"].decode(), made["nonce"].decode()
    opened = kit.decrypt_message(sent, mac, "1700000000", nonce)
    assert opened == "x" * length
    with pytest.raises(InvalidSignatureException):
        kit.decrypt_message(sent, "0" + mac[1:], "1700000000", nonce)


LARK_SEAL = [
    {"as": "sealed", "encrypt": "aes_cbc", "key": "${secret.encrypt_key}", "key_is": "sha256_of",
     "iv_is": "data_head", "pad": 16, "of": "${message}"},
    {"as": "body", "text": '{"encrypt":"${sealed}"}'},
    {"as": "stamp", "time": "s"},
    {"as": "mac", "hash": "sha256", "of": "${stamp}n1${secret.encrypt_key}${body}"},
]  # fmt: skip


def lark_request(message: dict):
    """Return what the recipes seal of a message: values of a delivery."""
    secret = {"encrypt_key": "k" * 16}
    made = recipes.run(LARK_SEAL, {"secret": secret, "message": json.dumps(message)}, NOW)
    header = {
        "x-lark-request-timestamp": made["stamp"].decode(),
        "x-lark-request-nonce": "n1",
        "x-lark-signature": made["mac"].decode(),
    }
    return {"secret": secret, "header": header, "body": made["body"]}


def lark_answers(values) -> int:
    seen = []
    kit = (
        lark_oapi.EventDispatcherHandler.builder("k" * 16, "vt")
        .register_p2_customized_event("approval.instance", seen.append)
        .build()
    )
    request = RawRequest()
    request.uri, request.body = "/", values["body"]
    request.headers = {
        "X-Lark-Request-Timestamp": values["header"]["x-lark-request-timestamp"],
        "X-Lark-Request-Nonce": values["header"]["x-lark-request-nonce"],
        "X-Lark-Signature": values["header"]["x-lark-signature"],
    }
    return kit.do(request).status_code


def test_lark_and_the_kit_agree():
    message = {
        "schema": "2.0",
        "header": {"event_id": "e1", "event_type": "approval.instance", "token": "vt"},
        "event": {"status": "通过"},
    }
    values = lark_request(message)
    assert lark_answers(values) == 200
    assert recipes.run(vectors.FEISHU, values, NOW)["event"] == message
    bad = {**values, "header": {**values["header"], "x-lark-signature": "0" * 64}}
    assert lark_answers(bad) == 500
    with pytest.raises(recipes.Refused):
        recipes.run(vectors.FEISHU, bad, NOW)


def test_lark_cipher_of_the_kit():
    opened = lark_oapi.core.utils.AESCipher("k" * 16).decrypt_str(
        json.loads(lark_request({"a": "中文"})["body"])["encrypt"]
    )
    assert json.loads(opened) == {"a": "中文"}


PAY_NOTICE = [
    {"as": "cipher", "encrypt": "aes_gcm", "key": "${secret.api_key}", "nonce": "abcdefghijkl",
     "aad": "transaction", "of": "${message}"},
    {"as": "body", "text": '{"id":"EV1","resource_type":"encrypt-resource",'
     '"resource":{"algorithm":"AEAD_AES_256_GCM",'
     '"nonce":"abcdefghijkl","associated_data":"transaction","ciphertext":"${cipher}"}}'},
    {"as": "stamp", "time": "s"},
    {"as": "signature", "rsa_sign": "sha256", "key": "${secret.private_key}",
     "of": "${stamp}\nn1\n${body}\n"},
]  # fmt: skip


def test_wechat_pay_and_the_kit_agree(pair):
    private, public = pair
    secret = {
        "api_key": "0123456789abcdef0123456789abcdef", "private_key": private,
        "public_key": public, "public_key_id": "PUB_KEY_ID_7",
    }  # fmt: skip
    made = recipes.run(PAY_NOTICE, {"secret": secret, "message": '{"trade_state":"SUCCESS"}'}, NOW)
    header = {
        "wechatpay-serial": "PUB_KEY_ID_7", "wechatpay-timestamp": "1700000000",
        "wechatpay-nonce": "n1", "wechatpay-signature": made["signature"].decode(),
        "wechatpay-signature-type": "WECHATPAY2-SHA256-RSA2048",
    }  # fmt: skip
    kit = WeChatPay(
        WeChatPayType.NATIVE, "1900000001", private, "SERIAL", "wx1", secret["api_key"],
        public_key=public, public_key_id="PUB_KEY_ID_7",
    )  # fmt: skip
    body = made["body"].decode()
    assert kit.decrypt_callback(header, body) == '{"trade_state":"SUCCESS"}'
    values = {"secret": secret, "header": header, "body": made["body"]}
    assert recipes.run(vectors.WECHAT_PAY, values, NOW)["event"] == {"trade_state": "SUCCESS"}
    bad = body.replace("EV1", "EV2")
    assert kit.decrypt_callback(header, bad) is None
    with pytest.raises(recipes.Refused):
        recipes.run(vectors.WECHAT_PAY, {**values, "body": bad.encode()}, NOW)


def test_wechat_pay_signs_requests_as_the_kit(pair):
    steps = [
        {"as": "mac", "rsa_sign": "sha256", "key": "${field.private_key}",
         "of": "${request.method}\n${request.path}\n1700000000\nn1\n${request.body}\n"},
    ]  # fmt: skip
    values = {
        "field": {"private_key": pair[0]},
        "request": {"method": "POST", "path": "/v3/pay?x=1", "body": b'{"a":"\xe5\x85\x83"}'},
    }
    mine = recipes.run(steps, values, NOW)["mac"].decode()
    text = 'POST\n/v3/pay?x=1\n1700000000\nn1\n{"a":"元"}\n'
    assert mine == pay_utils.rsa_sign(pay_utils.load_private_key(pair[0]), text)


@pytest.mark.parametrize("extra", [{}, {"empty": ""}, {"subject": "a+b &=% 中文"}])
def test_alipay_notice_from_the_kit(pair, extra):
    private, public = pair
    kit = alipay.AliPay("2016", None, private, public)
    data = {"app_id": "2016", "trade_no": "1", "total_amount": "0.10", **extra}
    sign = kit._sign("&".join(f"{name}={data[name]}" for name in sorted(data)))
    body = urlencode({**data, "sign": sign, "sign_type": "RSA2"})
    assert kit.verify({**data, "sign_type": "RSA2"}, sign)
    bare = "".join(line for line in public.splitlines() if "-----" not in line)
    values = {"secret": {"public_key": bare}, "body": body.encode()}
    form = recipes.run(vectors.ALIPAY, values, NOW)["form"]
    assert dict(form)["trade_no"] == "1"
    bad = body.replace("0.10", "9.10").encode()
    with pytest.raises(recipes.Refused) as refused:
        recipes.run(vectors.ALIPAY, {**values, "body": bad}, NOW)
    assert refused.value.code == "signature_mismatch"


def test_alipay_request_as_the_kit(pair):
    steps = [
        {"as": "all", "pairs": {"of": ["request.form"], "drop": ["sign"], "skip_empty": True}},
        {"as": "sign", "rsa_sign": "sha256", "key": "${field.private_key}", "of": "${all}"},
    ]
    form = {
        "method": "alipay.trade.query",
        "biz_content": '{"out_trade_no":"1"}',
        "sign_type": "RSA2",
    }
    made = recipes.run(steps, {"field": {"private_key": pair[0]}, "request": {"form": form}}, NOW)
    kit = alipay.AliPay("2016", None, *pair)
    text = "&".join(f"{name}={form[name]}" for name in sorted(form))
    assert made["sign"].decode() == kit._sign(text)


def test_stripe_from_the_kit():
    """The ready-made scheme against Stripe's kit."""
    stamp, raw = int(time.time()), b'{"id":"evt_1"}'
    mac = stripe.WebhookSignature._compute_signature(f"{stamp}.{raw.decode()}", "whsec_abc")
    headers = {"stripe-signature": f"t={stamp},v1={mac}"}
    options = {"header": "stripe-signature", "style": "stripe"}
    now = vectors.at(stamp).now
    verified = signing.verify("hmac", raw, headers, ["whsec_abc"], options, now)
    assert verified.sent_at == now
    with pytest.raises(BadSignature):
        signing.verify("hmac", raw + b" ", headers, ["whsec_abc"], options, now)

"""Signing: what good senders sign is taken, everything else is not."""

import base64
import hashlib
import hmac
import time
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from webhooks import signing
from webhooks.errors import BadSignature

NOW = datetime.fromtimestamp(int(time.time()), UTC)
SECRET = signing.new_secret()


def standard(raw=b"{}", secret=SECRET, message_id="msg_1", at=NOW):
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign(message_id, at, raw.decode()),
    }


def check(scheme, raw, headers, secrets=(SECRET,), now=NOW, **options):
    return signing.verify(scheme, raw, headers, list(secrets), options, now)


def refused(*args, **kwargs):
    with pytest.raises(BadSignature) as caught:
        check(*args, **kwargs)
    return caught.value.code


@given(st.text(max_size=200))
def test_the_public_library_and_we_agree_both_ways(text):
    raw = text.encode("utf-8", "replace")
    assert check("standard_webhooks", raw, standard(raw)).dedupe_id == "msg_1"
    ours = signing.sign("evt_9", raw, [SECRET], NOW)
    stranger = Webhook(SECRET)
    expected = stranger.sign("evt_9", NOW, raw.decode())
    assert ours["webhook-signature"] == expected


def test_the_published_vector():
    """The example of the Standard Webhooks specification."""
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    at = datetime.fromtimestamp(1614265330, UTC)
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    verified = check("standard_webhooks", b'{"test": 2432232314}', headers, [secret], at)
    assert verified.sent_at == at


@pytest.mark.parametrize(
    ("headers", "missing"), [({}, "webhook-id"), ({"svix-id": "msg_1"}, "svix-timestamp")]
)
def test_a_missing_header_is_called_by_the_name_the_sender_uses(headers, missing):
    with pytest.raises(BadSignature) as caught:
        check("standard_webhooks", b"{}", headers)
    assert caught.value.params == {"header": missing}


def test_every_changed_part_is_refused():
    raw = b'{"a":1}'
    good = standard(raw)
    assert refused("standard_webhooks", b'{"a":2}', good) == "signature_mismatch"
    for name in good:
        assert refused("standard_webhooks", raw, {**good, name: ""}) == "signature_missing"
    assert refused("standard_webhooks", raw, {**good, "webhook-id": "msg_2"})
    assert refused("standard_webhooks", raw, {**good, "webhook-id": "msg.1"})
    assert refused("standard_webhooks", raw, good, [signing.new_secret()])
    assert refused("standard_webhooks", raw, good, [])
    upper = {**good, "webhook-signature": good["webhook-signature"].swapcase()}
    assert refused("standard_webhooks", raw, upper)
    assert refused("standard_webhooks", raw, {**good, "webhook-signature": "v1,"})
    short = good["webhook-signature"][:-8]
    assert refused("standard_webhooks", raw, {**good, "webhook-signature": short})


@pytest.mark.parametrize("seconds", [-301, 301, -86_400, 10**9])
def test_old_and_future_messages_are_stale(seconds):
    at = datetime.fromtimestamp(NOW.timestamp() + seconds, UTC)
    assert refused("standard_webhooks", b"{}", standard(at=at)) == "signature_stale"


@pytest.mark.parametrize("stamp", ["", "x", "-1", "1e9", "１６", "9" * 14, "1614265330.5"])
def test_odd_times_are_refused(stamp):
    headers = {**standard(), "webhook-timestamp": stamp}
    assert refused("standard_webhooks", b"{}", headers).startswith("signature_")


def test_a_rotated_secret_and_several_signatures_work_up_to_twenty():
    raw = b"{}"
    old = signing.new_secret()
    assert check("standard_webhooks", raw, standard(raw, old), [SECRET, old])
    good = standard(raw)["webhook-signature"]
    many = {**standard(raw), "webhook-signature": " ".join(["v1,AAAA"] * 19 + [good])}
    assert check("standard_webhooks", raw, many)
    many["webhook-signature"] = "v1,AAAA " + many["webhook-signature"]
    assert refused("standard_webhooks", raw, many)


def test_ed25519():
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    secret = "whpk_" + base64.b64encode(public).decode()
    stamp = str(int(NOW.timestamp()))
    signature = base64.b64encode(key.sign(f"m.{stamp}.{{}}".encode())).decode()
    headers = {"webhook-id": "m", "webhook-timestamp": stamp}
    good = {**headers, "webhook-signature": f"v1a,{signature}"}
    assert check("standard_webhooks", b"{}", good, [secret])
    assert refused("standard_webhooks", b"{ }", good, [secret])
    assert refused("standard_webhooks", b"{}", {**good, "webhook-signature": "v1a,%%"}, [secret])
    # the public key is no shared secret: nobody may sign with it
    forged = hmac.digest(secret.encode(), f"m.{stamp}.{{}}".encode(), "sha256")
    bad = {**headers, "webhook-signature": "v1," + base64.b64encode(forged).decode()}
    assert refused("standard_webhooks", b"{}", bad, [secret])


def test_githubs_published_example():
    headers = {
        "x-hub-signature-256": "sha256="
        "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
        "x-github-delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
    }
    secret = ["It's a Secret to Everybody"]
    verified = check("github", b"Hello, World!", headers, secret)
    assert verified.dedupe_id == "72d3162e-cc78-11e3-81ab-4c9367dc0958"
    assert refused("github", b"Hello, World?", headers, secret)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("encoding", ["hex", "base64"])
def test_generic_hmac(algorithm, encoding):
    digest = hmac.new(b"k3y-k3y-k3y", b"raw", getattr(hashlib, algorithm)).digest()
    text = digest.hex() if encoding == "hex" else base64.b64encode(digest).decode()
    headers = {"x-shop-hmac": f"sig={text}", "x-event": "17"}
    options = {
        "header": "X-Shop-Hmac", "prefix": "sig=", "algorithm": algorithm,
        "encoding": encoding, "id_header": "X-Event",
    }  # fmt: skip
    verified = check("hmac", b"raw", headers, ["k3y-k3y-k3y"], **options)
    assert (verified.dedupe_id, verified.sent_at) == ("17", None)
    assert refused("hmac", b"raw!", headers, ["k3y-k3y-k3y"], **options)
    assert refused("hmac", b"raw", {"x-shop-hmac": text}, ["k3y-k3y-k3y"], **options)


def test_hmac_with_a_time_header():
    stamp = str(int(NOW.timestamp() * 1000))
    digest = hmac.new(b"secret-1", f"{stamp}\nraw".encode(), hashlib.sha256).hexdigest()
    headers = {"x-signature": digest, "x-time": stamp}
    options = {"timestamp_header": "X-Time", "signed": "{timestamp}\n{body}"}
    assert check("hmac", b"raw", headers, ["secret-1"], **options).sent_at is not None
    late = datetime.fromtimestamp(NOW.timestamp() + 400, UTC)
    assert refused("hmac", b"raw", headers, ["secret-1"], late, **options) == "signature_stale"
    # a template that leaves the time out would let an old message in under a new time
    options["signed"] = "{body}"
    assert refused("hmac", b"raw", headers, ["secret-1"], **options)


def test_stripe_style():
    stamp = str(int(NOW.timestamp()))
    digest = hmac.new(b"whsec_x", f"{stamp}.raw".encode(), hashlib.sha256).hexdigest()
    options = {"style": "stripe", "header": "Stripe-Signature"}
    good = {"stripe-signature": f"t={stamp},v1=00,v1={digest},v0=11"}
    assert check("hmac", b"raw", good, ["whsec_x"], **options).sent_at == NOW
    twice = {"stripe-signature": f"t={stamp},t=1,v1={digest}"}
    assert refused("hmac", b"raw", twice, ["whsec_x"], **options)
    assert refused("hmac", b"raw", {"stripe-signature": f"v1={digest}"}, ["whsec_x"], **options)


def test_token_none_and_unknown():
    headers = {"authorization": "Bearer t0k3n-t0k3n"}
    assert check("token", b"", headers, ["t0k3n-t0k3n"], prefix="Bearer ")
    assert refused("token", b"", headers, ["t0k3n"], prefix="Bearer ")
    assert refused("token", b"", {}, ["t0k3n"]) == "signature_missing"
    assert check("none", b"", {}, []) == signing.Verified()
    assert refused("plain", b"", headers) == "scheme_unknown"
    assert refused("", b"", headers) == "scheme_unknown"
    assert refused("hmac", b"", headers, algorithm="md5") == "scheme_unknown"


@given(st.dictionaries(st.sampled_from(["webhook-id", "webhook-timestamp", "webhook-signature",
       "x-hub-signature-256", "x-signature", "authorization"]), st.text(max_size=60)),
       st.sampled_from(sorted(set(signing.SCHEMES) - {"none"})), st.booleans())  # fmt: skip
def test_no_header_crashes_a_scheme(headers, scheme, is_stripe):
    options = {"style": "stripe", "header": "x-signature"} if is_stripe else {}
    with pytest.raises(BadSignature):
        check(scheme, b"{}", headers, **options)

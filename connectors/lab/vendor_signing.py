"""How an app signs what it sends: the headers that make a delivery pass its trigger's check."""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from connectors.engine.connector import Trigger
from webhooks import signing

EXAMPLE_SECRET = "whsec_" + base64.b64encode(b"only-for-trying-things-out-------").decode()
PLAIN = frozenset({"standard_webhooks", "github", "hmac", "token", "none"})


def seal(
    trigger: Trigger, headers: Mapping[str, str], raw: bytes, secret: str, now: datetime
) -> dict[str, str]:
    """Return the headers that prove a delivery under the trigger's scheme, {} under `none`."""
    options = trigger.verify.get("options", {})
    scheme = trigger.verify["scheme"]
    lower = {name.lower(): value for name, value in headers.items()}
    if scheme == "github":
        return {
            "X-Hub-Signature-256": "sha256=" + hmac.digest(secret.encode(), raw, "sha256").hex()
        }
    if scheme == "hmac":
        return _hmac(options, lower, raw, secret, now)
    if scheme == "token":
        name = str(options.get("header", "authorization"))
        return {name: str(options.get("prefix", "")) + secret}
    if scheme == "standard_webhooks":
        return signing.sign(lower.get("webhook-id", "msg_1"), raw, [secret], now)
    return {}


def _hmac(
    options: Mapping[str, Any], headers: Mapping[str, str], raw: bytes, secret: str, now: datetime
) -> dict[str, str]:
    stamp, sent = "", {}
    is_stripe = options.get("style") == "stripe"
    if is_stripe or options.get("timestamp_header"):
        stamp = str(int(now.timestamp()))
    if options.get("timestamp_header"):
        sent[str(options["timestamp_header"])] = stamp
    default = "{timestamp}.{body}" if stamp else "{body}"
    before, _, after = str(options.get("signed") or default).partition("{body}")
    message_id = headers.get(str(options.get("id_header", "")).lower(), "")

    def fill(text: str) -> bytes:
        return text.replace("{timestamp}", stamp).replace("{id}", message_id).encode()

    digest = hmac.new(
        _key(secret, options), fill(before) + raw + fill(after), options.get("algorithm", "sha256")
    ).digest()
    seal = (
        base64.b64encode(digest).decode() if options.get("encoding") == "base64" else digest.hex()
    )
    shown = f"t={stamp},v1={seal}" if is_stripe else str(options.get("prefix", "")) + seal
    return {**sent, str(options.get("header", "x-signature")): shown}


def _key(secret: str, options: Mapping[str, Any]) -> bytes:
    if options.get("secret_encoding") == "base64":
        return base64.b64decode(secret)
    return bytes.fromhex(secret) if options.get("secret_encoding") == "hex" else secret.encode()


def secret_for(trigger: Trigger) -> str:
    """Return a secret of the kind the trigger's scheme reads."""
    encoding = trigger.verify.get("options", {}).get("secret_encoding")
    plain = b"only-for-trying-things-out-------"
    if encoding == "base64":
        return base64.b64encode(plain).decode()
    return hashlib.sha256(plain).hexdigest() if encoding == "hex" else EXAMPLE_SECRET

"""The events of the bench: paid orders with ten lines, about 1.5 kB, made from a fixed seed."""

import base64
import hashlib
import hmac
import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any

TYPE = "order.paid"
LINES = 10
# Found in whatever a system makes of an order, so that one target can count for all of them.
MARK = b"YB-"
DIGITS = 8
_SKUS = ("BRG-6204", "GSK-0081", "BLT-M8X40", "SHF-25H7", "PMP-0400", "VLV-0032", "SNS-PT100")
_BUYERS = ("扬州启航轴承有限公司", "苏州明华五金厂", "临沂顺达包装有限公司", "Hebei Lantern Ltd")
_METHODS = ("wechat_pay", "alipay", "bank_transfer")
_EPOCH = datetime(2026, 11, 22, 1, 0, tzinfo=UTC)


def order_no(number: int) -> str:
    """Name an order so that its number can be read back at the target."""
    return f"{MARK.decode()}{number:0{DIGITS}d}"


def number_in(body: bytes) -> int | None:
    """Read the number of the order back out of a request's body, None when there is none."""
    at = body.find(MARK)
    digits = body[at + len(MARK) : at + len(MARK) + DIGITS]
    return int(digits) if at >= 0 and len(digits) == DIGITS and digits.isdigit() else None


def order(number: int, seed: int) -> dict[str, Any]:
    """Make one order: the same for the same number and seed."""
    choose = random.Random(seed * 1_000_003 + number)
    lines, total = [], 0
    for line in range(LINES):
        quantity, price = choose.randint(1, 9), choose.randint(100, 99_999)
        total += quantity * price
        lines.append(
            {
                "line_id": str(line + 1),
                "item": {"sku": choose.choice(_SKUS)},
                "quantity": {"value": str(quantity), "unit_code": "C62"},
                "unit_price": {"value": _yuan(price), "currency": "CNY"},
            }
        )
    amount = {"value": _yuan(total), "currency": "CNY"}
    return {
        "order_no": order_no(number),
        "channel": "web-shop",
        "payment_no": f"42000011892026{number:012d}",
        "method": choose.choice(_METHODS),
        "amount": amount,
        "paid_at": (_EPOCH + timedelta(seconds=number % 86_400)).isoformat(),
        "customer": {"id": f"C-{choose.randint(0, 99_999):05d}", "name": choose.choice(_BUYERS)},
        "lines": lines,
        "total": amount,
    }


def _yuan(fen: int) -> str:
    return f"{fen // 100}.{fen % 100:02d}"


def body(numbers: range, seed: int, *, as_array: bool) -> bytes:
    """Write orders as the body of one request, `{type, timestamp, data}` or an array of them."""
    events = []
    for number in numbers:
        data = order(number, seed)
        events.append({"type": TYPE, "timestamp": data["paid_at"], "data": data})
    value: Any = events if as_array else events[0]
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def signature_headers(secret: str, message_id: str, payload: bytes, at: int) -> dict[str, str]:
    """Sign a body the Standard Webhooks way."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{message_id}.{at}.".encode() + payload
    digest = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(at),
        "webhook-signature": f"v1,{digest}",
    }

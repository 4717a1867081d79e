"""The few functions expressions may call: exact money, dates and text, the same everywhere."""

import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import ROUND_HALF_UP, Context, Decimal, Inexact, InvalidOperation, Overflow
from typing import Any
from zoneinfo import ZoneInfo

from connectors.engine.findings import EngineError, Say, say
from kernel import documents

MAX_TEXT = 64 * 1024
EXACT = Context(prec=60)
STRICT = Context(prec=120, traps=[Inexact, Overflow, InvalidOperation])
_DECIMAL = re.compile(r"[+-]?[0-9]{1,40}(?:\.[0-9]{1,30})?")
_WHOLE = re.compile(r"[+-]?[0-9]{1,40}")
_OFFSET = re.compile(r"([+-])([0-9]{2}):([0-9]{2})")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_LOCAL = re.compile(
    r"[0-9]{4}[-/][0-9]{2}[-/][0-9]{2}[ T][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?"
)
_UNIX = re.compile(r"[0-9]{9,13}")
_PARTS = re.compile(r"yyyy|yy|MM|dd|HH|mm|ss|SSS|XXX|'[^']*'")


class EvaluationError(EngineError):
    """An expression could not be computed with these values; `path` is the value it lacked."""

    def __init__(self, sentence: Say, path: str | None = None) -> None:
        """Keep the sentence and the path."""
        super().__init__(sentence)
        self.path = path


class Missing(EvaluationError):  # noqa: N818 - it says what the value is
    """A value that is not there (or is null where text is needed); defaults may stand in."""


def shown(value: Any) -> str:
    """Return a short picture of a value for a message."""
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "…"


def kind(value: Any) -> str:
    """Return the JSON kind of a value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | Decimal | float):
        return "number"
    if isinstance(value, str):
        return "text"
    return "list" if isinstance(value, list) else "object"


def to_text(value: Any) -> str:
    """Return the text of a single value: numbers digit for digit, true/false for booleans."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, float):
        return format(Decimal(repr(value)), "f")
    if value is None:
        raise Missing(say("值是空的，不能变成文本", "The value is null and cannot become text"))
    zh, en = ("列表", "A list") if isinstance(value, list) else ("对象", "An object")
    raise EvaluationError(say(f"{zh}不能变成文本", f"{en} cannot become text"))


def to_decimal(value: Any) -> Decimal:
    """Return the exact decimal of a number or of plain decimal text such as "12.50"."""
    if isinstance(value, Decimal) and value.is_finite():
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return Decimal(value)
    if isinstance(value, str) and _DECIMAL.fullmatch(value.strip()):
        return Decimal(value.strip())
    raise EvaluationError(say(f"{shown(value)} 不是数字", f"{shown(value)} is not a number"))


def money(value: Any, digits: Any = 2) -> str:
    """Return an amount as decimal text with a fixed number of digits, half away from zero."""
    if isinstance(digits, bool) or not isinstance(digits, int) or not 0 <= digits <= 10:
        raise EvaluationError(say("小数位数须在 0 到 10 之间", "Digits go from 0 to 10"))
    amount = to_decimal(value)
    try:
        return format(amount.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP, EXACT), "f")
    except InvalidOperation as broken:
        raise EvaluationError(
            say(f"{shown(value)} 太长", f"{shown(value)} is too long for an amount")
        ) from broken


def to_int(value: Any) -> int:
    """Return a whole number; text with a fraction or letters is refused, never rounded."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        return value
    if isinstance(value, str) and _WHOLE.fullmatch(value.strip()):
        return int(value.strip())
    number = to_decimal(value)
    if number != number.to_integral_value(context=EXACT):
        raise EvaluationError(
            say(f"{shown(value)} 不是整数", f"{shown(value)} is not a whole number")
        )
    return int(number)


def zone_of(name: Any) -> Any:
    """Return a zone from "+08:00", "Z" or a name such as Asia/Shanghai."""
    if name in ("Z", "UTC"):
        return UTC
    match = _OFFSET.fullmatch(name) if isinstance(name, str) else None
    if match and int(match[2]) < 24 and int(match[3]) < 60:
        span = timedelta(hours=int(match[2]), minutes=int(match[3]))
        return timezone(-span if match[1] == "-" else span)
    try:
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_]+(?:/[A-Za-z_+\-0-9]+)*", name):
            raise ValueError(name)
        return ZoneInfo(name)
    except (ValueError, OSError, LookupError) as broken:
        raise EvaluationError(
            say(f"不认识时区 {shown(name)}", f"The time zone {shown(name)} is not known")
        ) from broken


def date(value: Any, pattern: Any = "yyyy-MM-dd", zone: Any = "+08:00") -> str:
    """Return a moment (RFC 3339 text or a plain day) written with a pattern in a zone."""
    moment = moment_of(value, zone)
    if not isinstance(pattern, str) or len(pattern) > 60:
        raise EvaluationError(say("日期格式须是短文本", "The date pattern must be short text"))
    offset = moment.strftime("%z")
    parts = {
        "yyyy": f"{moment.year:04d}", "yy": f"{moment.year % 100:02d}",
        "MM": f"{moment.month:02d}", "dd": f"{moment.day:02d}", "HH": f"{moment.hour:02d}",
        "mm": f"{moment.minute:02d}", "ss": f"{moment.second:02d}",
        "SSS": f"{moment.microsecond // 1000:03d}", "XXX": f"{offset[:3]}:{offset[3:5]}",
    }  # fmt: skip
    return _PARTS.sub(lambda found: parts.get(found[0], found[0].strip("'")), pattern)


def moment_of(value: Any, zone: Any = "+08:00") -> datetime:
    """Return the moment that a text says; a plain day begins at midnight of the zone."""
    text = value.strip() if isinstance(value, str) else ""
    where = zone_of(zone)
    try:
        if _DAY.fullmatch(text):
            return datetime.fromisoformat(text).replace(tzinfo=where)
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None or len(text) < 16:
            raise ValueError(text)
        return moment.astimezone(where)
    except (ValueError, OverflowError) as broken:
        raise EvaluationError(
            say(
                f"{shown(value)} 不是带时区的时间",
                f"{shown(value)} is not a time with a zone, such as 2026-09-01T10:00:00+08:00",
            )
        ) from broken


def moment(value: Any, zone: Any = "+08:00") -> str:
    """Return a time as RFC 3339 text: from `2026-11-22 09:30:00` in a zone, or from unix time.

    Whole numbers up to 11 digits are seconds, longer ones milliseconds.
    """
    text = to_text(value).strip()
    if _UNIX.fullmatch(text):
        seconds = int(text) / (1000 if len(text) > 11 else 1)
        return datetime.fromtimestamp(seconds, zone_of(zone)).isoformat()
    if _LOCAL.fullmatch(text):
        try:
            local = datetime.fromisoformat(text.replace("/", "-"))
        except ValueError:
            return moment_of(text, zone).isoformat()  # says what is wrong
        return local.replace(tzinfo=zone_of(zone)).isoformat()
    return moment_of(text, zone).isoformat()


def epoch(value: Any, unit: Any = "s") -> str:
    """Return a moment (as `date` reads it) as unix time, in `s` or `ms`."""
    if unit not in ("s", "ms"):
        raise EvaluationError(say("单位只能是 s 或 ms", "The unit is s or ms"))
    since = moment_of(value, "+08:00") - datetime(1970, 1, 1, tzinfo=UTC)
    return str(
        since // timedelta(milliseconds=1) if unit == "ms" else since // timedelta(seconds=1)
    )


def plus(left: Any, right: Any) -> str:
    """Return the exact sum as decimal text."""
    return _figure(STRICT.add, left, right)


def minus(left: Any, right: Any) -> str:
    """Return the exact difference as decimal text."""
    return _figure(STRICT.subtract, left, right)


def times(left: Any, right: Any) -> str:
    """Return the exact product as decimal text."""
    return _figure(STRICT.multiply, left, right)


def _figure(work: Callable[[Decimal, Decimal], Decimal], left: Any, right: Any) -> str:
    try:
        return short(format(work(to_decimal(left), to_decimal(right)), "f"))
    except (Inexact, Overflow) as broken:
        raise EvaluationError(
            say("数字太长，无法精确计算", "The numbers are too long to compute exactly")
        ) from broken


def join(values: Any, separator: Any = ", ") -> str:
    """Return the texts of a list joined with a separator."""
    if not isinstance(values, list) or not isinstance(separator, str):
        raise EvaluationError(say("join 需要列表和分隔符", "join takes a list and a separator"))
    return short(separator.join(to_text(one) for one in values))


def replace(value: Any, old: Any, new: Any) -> str:
    """Return the text with every `old` (not empty) written as `new`."""
    if not (isinstance(value, str) and isinstance(old, str) and isinstance(new, str) and old):
        raise EvaluationError(say("replace 需要三段文本", "replace takes three texts"))
    if len(value) + value.count(old) * len(new) > MAX_TEXT:
        raise too_long()
    return value.replace(old, new)


def part(value: Any, start: Any, length: Any) -> str:
    """Return up to `length` characters of a text from position `start` (0 is the first)."""
    start, length = to_int(start), to_int(length)
    if start < 0 or length < 0:
        raise EvaluationError(say("位置不能是负数", "Positions cannot be negative"))
    return to_text(value)[start : start + length]


def base64(value: Any) -> str:
    """Return the text's UTF-8 bytes in base64 (RFC 4648, with its padding)."""
    return short(b64encode(to_text(value).encode()).decode())


def base64url(value: Any) -> str:
    """Return the text's UTF-8 bytes in the base64 of addresses (RFC 4648, with its padding)."""
    return short(urlsafe_b64encode(to_text(value).encode()).decode())


def short(text: str) -> str:
    """Return the text, or refuse it when it is longer than 64 Ki characters."""
    if len(text) > MAX_TEXT:
        raise too_long()
    return text


def too_long() -> EvaluationError:
    """Return the refusal of a text over the budget."""
    return EvaluationError(say("结果文本超过 64 千字符", "The text is over 64 thousand characters"))


# name → (function, least arguments, most arguments)
FUNCTIONS: dict[str, tuple[Callable[..., Any], int, int]] = {
    "money": (money, 1, 2),
    "date": (date, 1, 3),
    "moment": (moment, 1, 2),
    "epoch": (epoch, 1, 2),
    "text": (lambda value: short(to_text(value)), 1, 1),
    "int": (to_int, 1, 1),
    "plus": (plus, 2, 2),
    "minus": (minus, 2, 2),
    "times": (times, 2, 2),
    "lower": (lambda value: to_text(value).lower(), 1, 1),
    "upper": (lambda value: to_text(value).upper(), 1, 1),
    "trim": (lambda value: to_text(value).strip(), 1, 1),
    "join": (join, 1, 2),
    "replace": (replace, 3, 3),
    "part": (part, 3, 3),
    "base64": (base64, 1, 1),
    "base64url": (base64url, 1, 1),
    "json": (lambda value: short(documents.dump(value).decode()), 1, 1),
}

"""Steps about texts: joining, parameters in order, times, encodings, reading documents."""

import base64
import binascii
import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, unquote_to_bytes
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from kernel import documents
from kernel.errors import Problem
from webhooks.recipes.values import (
    Missing,
    Pairs,
    Refused,
    Surroundings,
    as_bytes,
    bounded,
    broken,
    find,
    mismatch,
    pairs_of,
    path_of,
    spend,
    text,
)

MAX_PAIRS = 1000
MAX_PARTS = 20
MAX_ELEMENTS = 20_000
MAX_DEPTH = 64
OUTS = ("hex", "HEX", "base64", "base64url", "raw")
_TOKENS = {"yyyy": "%Y", "MM": "%m", "dd": "%d", "HH": "%H", "mm": "%M", "ss": "%S"}
_TOKEN = re.compile("|".join(_TOKENS))
_OFFSET = re.compile(r"([+-])([01][0-9]):([0-5][0-9])")

Step = Mapping[str, Any]
Values = Mapping[str, Any]


def out(value: bytes, way: str) -> bytes:
    """Write raw bytes the way a step says."""
    if way == "hex":
        return value.hex().encode()
    if way == "HEX":
        return value.hex().upper().encode()
    if way == "base64":
        return base64.b64encode(value)
    if way == "base64url":
        return base64.urlsafe_b64encode(value).rstrip(b"=")
    if way == "raw":
        return value
    raise broken(f"没有 {way} 这种写法", f"There is no way {way} to write it")


def undo(value: bytes, way: str) -> bytes:
    """Read what was written one way; refuses a second spelling of the same bytes."""
    try:
        if way == "raw":
            return value
        if way in ("hex", "HEX"):
            return bytes.fromhex(value.decode("ascii")) if value.isalnum() or not value else _bad()
        if way == "base64":
            found = base64.b64decode(value, validate=True)
            return found if base64.b64encode(found) == value else _bad()
        if way == "base64url":
            bare = value.rstrip(b"=")
            found = base64.b64decode(bare + b"=" * (-len(bare) % 4), b"-_", validate=True)
            return found if out(found, way) == bare else _bad()
        if way == "percent":
            return unquote_to_bytes(value)
        if way == "form":
            return unquote_to_bytes(value.replace(b"+", b" "))
    except (ValueError, binascii.Error):
        return _bad()
    raise broken(f"没有 {way} 这种写法", f"There is no way {way} to read it")


def _bad() -> bytes:
    raise mismatch("内容的编码不对", "The encoding is not right")


def _text(word: Any, step: Step, values: Values, around: Surroundings) -> bytes:  # noqa: ARG001
    return text(word, values, optional=step.get("optional") is True)


def _sorted(word: Any, step: Step, values: Values, around: Surroundings) -> bytes:  # noqa: ARG001
    between = str(step.get("between", "")).encode()
    return bounded(between.join(sorted(text(one, values) for one in word)))


def _pairs(word: Any, step: Step, values: Values, around: Surroundings) -> bytes:  # noqa: ARG001
    """Write parameters in the order and way that they are signed in."""
    found: list[tuple[bytes, bytes]] = []
    drop, only = frozenset(word.get("drop", ())), word.get("only")
    for source in word["of"]:
        try:
            given = find(path_of(source), values)
        except Missing:
            continue  # a request without parameters of this kind
        spend(16 * len(given))
        for name, value in pairs_of(given):
            if name in drop or (only is not None and name not in only):
                continue
            written = b"" if value is None else as_bytes(value)
            spend(len(written))
            if not written and word.get("skip_empty"):
                continue
            key = name.lower() if word.get("lower") else name
            found.append((as_bytes(key), written))
    if len(found) > MAX_PAIRS:
        raise mismatch("参数太多", "There are too many parameters")
    order = word.get("sort", "name")
    if order != "none":
        found.sort(key=lambda pair: pair if order == "name" else (pair[1], pair[0]))
    if word.get("encode") == "percent":
        found = [(quote(key, safe="").encode(), quote(one, safe="").encode()) for key, one in found]
    pair, what = str(word.get("pair", "=")).encode(), word.get("what", "both")
    parts = [
        key + pair + one if what == "both" else one if what == "values" else key
        for key, one in found
    ]
    return bounded(str(word.get("between", "&")).encode().join(parts))


def _time(word: Any, step: Step, values: Values, around: Surroundings) -> bytes:  # noqa: ARG001
    if word == "s":
        return str(int(around.now.timestamp())).encode()
    if word == "ms":
        return str(int(around.now.timestamp() * 1000)).encode()
    local = around.now.astimezone(zone_of(step.get("offset", "+00:00")))
    if word == "iso":
        return local.isoformat(timespec="seconds").encode()
    return local.strftime(_pattern(word)).encode()


def _random(word: Any, step: Step, values: Values, around: Surroundings) -> bytes:  # noqa: ARG001
    if not 1 <= word <= 64:
        raise broken("随机字节数须为 1 到 64", "1 to 64 random bytes can be had")
    drawn, way = around.random(word), step.get("out", "hex")
    if way == "digits":  # for vendors that take nothing else; not evenly spread, which is no secret
        return bytes(0x30 + byte % 10 for byte in drawn)
    return out(drawn, way)


def _split(word: Any, step: Step, values: Values, around: Surroundings) -> list[str]:  # noqa: ARG001
    """Cut a text into its parts, which are read as `${x.0}`, `${x.1}` and so on."""
    try:
        parts = text(word, values).decode().split(step["at"])
    except UnicodeDecodeError:
        raise mismatch("文字无法读成 UTF-8", "A text cannot be read as UTF-8") from None
    if len(parts) > MAX_PARTS:
        raise mismatch("分出的段数太多", "There are too many parts")
    return parts


def _xor(word: Any, step: Step, values: Values, around: Surroundings) -> bytes:  # noqa: ARG001
    """Combine the bytes of a value with those of a second, which must be as long or longer."""
    first, second = (text(one, values) for one in word)
    if len(first) > len(second):
        raise broken("第二个值太短", "The second value is too short")
    mixed = bytes(a ^ b for a, b in zip(first, second, strict=False))
    return bounded(out(mixed, step.get("out", "raw")))


def _decode(word: Any, step: Step, values: Values, around: Surroundings) -> bytes:  # noqa: ARG001
    raw = text(step["of"], values)
    if word in ("percent", "form"):
        spend(len(raw))  # these are slow
    return undo(raw, word)


def _encode(word: Any, step: Step, values: Values, around: Surroundings) -> bytes:  # noqa: ARG001
    value = text(step["of"], values)
    if word == "percent":
        return bounded(quote(value, safe="").encode())
    if word == "form":
        return bounded(quote_plus(value, safe="").encode())
    return bounded(out(value, word))


def _parse(word: Any, step: Step, values: Values, around: Surroundings) -> Any:  # noqa: ARG001
    raw = text(step["of"], values)
    spend((2 if word == "json" else 7) * len(raw))  # objects take longer to build than bytes
    if word == "json":
        try:
            return documents.parse(raw)
        except Problem:
            raise mismatch("内容不是正确的 JSON", "It is no good JSON") from None
    if word == "xml":
        return read_xml(raw)
    if word in ("form", "query"):
        return read_form(raw)
    raise broken(f"没有 {word} 这种格式", f"There is no format {word}")


def read_form(raw: bytes) -> Pairs:
    """Read a form or query; bytes that are no UTF-8 stay as they were."""
    try:
        text_of = raw.decode("ascii", "surrogateescape")
        found = parse_qsl(
            text_of, keep_blank_values=True, errors="surrogateescape", max_num_fields=MAX_PAIRS
        )
    except ValueError:
        raise mismatch("参数太多", "There are too many parameters") from None
    return Pairs(found)


def _equal(word: Any, step: Step, values: Values, around: Surroundings) -> None:  # noqa: ARG001
    left, right = word
    one, other = text(left, values), text(right, values)
    if not one or not hmac.compare_digest(one, other):
        raise mismatch("两个值不一致", "The two values are not the same")


def _fresh(word: Any, step: Step, values: Values, around: Surroundings) -> None:
    given = text(word, values)
    seconds = step.get("within_seconds", 300)
    at = read_time(given, step.get("unit", "s"), step.get("offset", "+00:00"))
    if at is None:
        raise Refused("signature_stale", "时间无法读取", "Its time cannot be read")
    if abs((around.now - at).total_seconds()) > seconds:
        raise Refused(
            "signature_stale",
            f"时间与本机相差超过 {seconds} 秒",
            f"Its time is more than {seconds} seconds away from our clock",
        )


def read_time(given: bytes, unit: str, offset: str = "+00:00") -> datetime | None:
    """Read a time: `s`, `ms`, `iso` or a pattern in the offset's zone; None when it is none."""
    try:
        written = given.decode("ascii")
        if unit in ("s", "ms"):
            if not written.isdigit() or len(written) > 15:
                return None
            return datetime.fromtimestamp(int(written) / (1000 if unit == "ms" else 1), UTC)
        if unit == "iso":
            at = datetime.fromisoformat(written)
        else:
            at = datetime.strptime(written, _pattern(unit))  # noqa: DTZ007 - the zone follows
        return at if at.tzinfo else at.replace(tzinfo=zone_of(offset))
    except (ValueError, OverflowError, OSError):
        return None


def zone_of(offset: str) -> timezone:
    """Read `+08:00`."""
    match = _OFFSET.fullmatch(offset)
    if match is None:
        raise broken("时差要写成 +08:00 这样", "An offset is written like +08:00")
    minutes = int(match[2]) * 60 + int(match[3])
    return timezone(timedelta(minutes=-minutes if match[1] == "-" else minutes))


def is_pattern(unit: Any) -> bool:
    """Tell whether a text is a pattern of times, such as `yyyy-MM-dd HH:mm:ss`."""
    return isinstance(unit, str) and len(unit) <= 40 and "yyyy" in unit and "%" not in unit


def _pattern(unit: str) -> str:
    if not is_pattern(unit):
        raise broken(f"没有 {unit} 这种时间写法", f"There is no way {unit} to write a time")
    return _TOKEN.sub(lambda match: _TOKENS[match[0]], unit)


class _Reader:
    """Builds plain objects while XML is read, so that size and depth are bounded on the way."""

    def __init__(self) -> None:
        self.stack: list[tuple[str, dict[str, Any], list[str]]] = [("", {}, [])]
        self.count = 0

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        self.count += 1
        if len(self.stack) > MAX_DEPTH or self.count > MAX_ELEMENTS:
            raise mismatch("XML 太深或太大", "The XML is too deep or too large")
        found: dict[str, Any] = {f"@{_local(name)}": one for name, one in attributes.items()}
        self.stack.append((_local(tag), found, []))

    def data(self, data: str) -> None:
        self.stack[-1][2].append(data)

    def end(self, tag: str) -> None:  # noqa: ARG002 - the parser says it again
        name, found, texts = self.stack.pop()
        written = "".join(texts)
        value: Any = found if found else written
        if found and written.strip():
            found["#text"] = written.strip()
        above = self.stack[-1][1]
        if name not in above:
            above[name] = value
        elif isinstance(above[name], list):
            above[name].append(value)
        else:
            above[name] = [above[name], value]

    def close(self) -> Any:
        return next(iter(self.stack[0][1].values()))


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def read_xml(raw: bytes) -> Any:
    """Read an XML document as a plain object without its outermost name; repeated names are lists.

    Texts stay texts; document types and entities of its own are refused.
    """
    reader = DefusedXMLParser(target=_Reader(), forbid_dtd=True)
    try:
        reader.feed(raw)
        return reader.close()
    except (ParseError, DefusedXmlException, LookupError, ValueError, StopIteration):
        raise mismatch("内容不是正确的 XML", "It is no good XML") from None


VALUES = {
    "text": _text,
    "sorted": _sorted,
    "pairs": _pairs,
    "time": _time,
    "random": _random,
    "split": _split,
    "xor": _xor,
    "decode": _decode,
    "encode": _encode,
    "parse": _parse,
}
CHECKS = {"equal": _equal, "fresh": _fresh}

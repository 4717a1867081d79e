"""JSON in and out without losing anything: exact numbers, stated limits, one meaning per document.

Two readers that disagree about a document are how a check is passed by one value and acted on
with another, so `parse` refuses what systems read differently: repeated keys, NaN, a byte order
mark, other charsets and text after the end. Whole numbers keep every digit, fractions become
Decimal and are written back as they were read (12.50 stays 12.50); 1e-7 may come back as
0.0000001 and 1e999 as 1E+999, which is the same number to the last digit.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from itertools import accumulate
from json.encoder import encode_basestring
from typing import Any, NoReturn

import orjson

from kernel.errors import N_, Malformed, TooLarge

MAX_BYTES = 1 << 20
MAX_DEPTH = 64
MAX_ITEMS = 1000
MAX_DIGITS = 4300

_SPACE = re.compile(r"[ \t\r\n]*")
_BOMS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
_NOT_BRACKET = bytes(set(range(256)) - set(b"[]{}"))
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # one down, one up again
_MAYBE_BEYOND_64_BITS = re.compile(rb"[0-9]{19}")
_PLAIN_ZEROS = 40
_OPTIONS = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS


def parse(
    raw: bytes, max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH, *, exact: bool = True
) -> Any:
    """Read one JSON document; fractions are Decimal, or plain floats when not `exact`.

    Raises TooLarge above `max_bytes` and Malformed for everything else, naming the limit.
    """
    if len(raw) > max_bytes:
        raise TooLarge(
            detail=N_("The document has %(size)s bytes; the limit is %(limit)s"),
            size=len(raw), limit=max_bytes,
        )  # fmt: skip
    _check_depth(raw, max_depth)
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return _parse_exactly(raw, exact=exact)
    # orjson makes a float of everything it cannot hold, and silently drops repeated keys; those
    # lose their colons on the way back, where nothing can add one: a colon within a string is
    # never escaped, except as \u003a
    if (
        orjson.dumps(value).count(b":") == raw.count(b":")
        and b"\\u003" not in raw
        and not (_has_float(value) if exact else _MAYBE_BEYOND_64_BITS.search(raw))
    ):
        return value
    return _parse_exactly(raw, exact=exact)


def dump(value: Any, *, sort_keys: bool = False) -> bytes:
    """Write a value as compact UTF-8 JSON; raises TypeError or ValueError for what JSON has not.

    Decimals keep their digits, lone surrogates are written as escapes, keys must be text.
    """
    options = _OPTIONS | orjson.OPT_SORT_KEYS if sort_keys else _OPTIONS
    try:
        raw = orjson.dumps(value, default=_fragment, option=options)
    except (TypeError, RecursionError):
        # whole numbers beyond 64 bits, lone surrogates, very deep values, or a real mistake
        parts: list[str] = []
        _write(value, parts.append, sort_keys=sort_keys)
        return "".join(parts).encode("utf-8", "backslashreplace")
    if b"null" in raw:
        _refuse_not_finite(value)  # orjson writes NaN as null, which is another value
    return raw


def split_array(
    raw: bytes,
    max_items: int = MAX_ITEMS,
    max_bytes: int = MAX_BYTES,
    max_depth: int = MAX_DEPTH,
) -> list[bytes]:
    """Cut a JSON array into the exact bytes of its elements, without the space around them.

    Each element may be `max_depth` deep; its keys and numbers are only judged by `parse`.
    """
    if len(raw) > max_bytes:
        raise TooLarge(
            detail=N_("The document has %(size)s bytes; the limit is %(limit)s"),
            size=len(raw), limit=max_bytes,
        )  # fmt: skip
    _check_depth(raw, max_depth + 1)
    text = _decode(raw)
    slices: list[bytes] = []
    at = _skip(text, 0)
    if text[at : at + 1] != "[":
        raise Malformed(detail=N_("A JSON array is expected"), code="not_an_array")
    at = _skip(text, at + 1)
    more = text[at : at + 1] != "]"
    while more:
        if len(slices) == max_items:
            raise TooLarge(
                detail=N_("The array has more than %(limit)s elements"),
                code="too_many_items", limit=max_items,
            )  # fmt: skip
        end = _end_of_value(text, at)
        slices.append(text[at:end].encode())
        at = _skip(text, end)
        more = text[at : at + 1] == ","
        if more:
            at = _skip(text, at + 1)
    if text[at : at + 1] != "]" or _skip(text, at + 1) != len(text):
        raise _not_json(text, at)
    return slices


def member(raw: bytes, name: str, whole: Mapping[str, Any]) -> bytes:
    """Return the exact bytes of a member of a JSON object; `whole` is what `parse` read of it."""
    written = dump(whole[name])
    tail = b'"' + name.encode() + b'":' + written + b"}"
    # what most senders write: compact, the data last. A quote behind a brace or a comma begins a
    # name, and what follows is one whole value up to the object's own end.
    if raw.endswith(tail) and raw[-len(tail) - 1 : -len(tail)] in (b"{", b","):
        return written
    text = _decode(raw)
    at = _skip(text, 0)
    for number in range(1, len(whole) + 1):
        found, at = _SCANNER.raw_decode(text, _skip(text, at + 1))  # behind the brace or comma
        at = _skip(text, _skip(text, at) + 1)  # behind the colon
        if found == name and number == len(whole):
            return text[at : text.rindex("}")].rstrip(" \t\r\n").encode()
        end = _end_of_value(text, at)
        if found == name:
            return text[at:end].encode()
        at = _skip(text, end)
    raise KeyError(name)


def canonical_digest(raw: bytes, max_bytes: int = MAX_BYTES) -> str:
    """Return the SHA-256 (hex) of a document, the same for any key order, spacing and escaping.

    12.5 and 12.50 differ on purpose: they are equal amounts, but not the same statement.
    """
    return hashlib.sha256(dump(parse(raw, max_bytes), sort_keys=True)).hexdigest()


def _check_depth(raw: bytes, max_depth: int) -> None:
    """Refuse nesting beyond the limit in linear time, before any parser sees the bytes."""
    if raw.count(b"[") + raw.count(b"{") <= max_depth:
        return
    # without escapes, every second piece between quotes lies outside the strings
    pieces = raw.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2]
    nest = b"".join(pieces).translate(_STEPS, _NOT_BRACKET)
    if max(accumulate(memoryview(nest).cast("b")), default=0) > max_depth:
        raise Malformed(
            detail=N_("It is nested deeper than %(limit)s levels"), code="too_deep", limit=max_depth
        )


def _decode(raw: bytes) -> str:
    if raw.startswith(_BOMS):
        raise Malformed(
            detail=N_("It starts with a byte order mark; send UTF-8 without one"),
            code="byte_order_mark",
        )
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise Malformed(
            detail=N_("It is not UTF-8 text; the first wrong byte is number %(position)s"),
            code="not_utf8", position=error.start + 1,
        ) from None  # fmt: skip
    if "\x00" in text[:2]:
        raise Malformed(
            detail=N_("It is UTF-16 or UTF-32 text; only UTF-8 is read"), code="not_utf8"
        )
    return text


def _has_float(value: Any) -> bool:
    """Look for a float, once for every node: the price of exactness on the fast path."""
    kind = type(value)
    if kind is not dict and kind is not list:
        return kind is float
    for item in value.values() if kind is dict else value:
        kind = type(item)
        if kind is float or ((kind is dict or kind is list) and _has_float(item)):
            return True
    return False


def _parse_exactly(raw: bytes, *, exact: bool) -> Any:
    """Read with the standard parser, which hands every number and object to us as text."""
    text = _decode(raw)
    try:
        return (_EXACT if exact else _FLOATS).decode(text)
    except json.JSONDecodeError as error:
        raise _not_json(text, error.pos) from None


def _not_json(text: str, position: int) -> Malformed:
    line = text.count("\n", 0, position) + 1
    return Malformed(
        detail=N_("It stops being valid JSON at line %(line)s, column %(column)s"),
        code="not_json", line=line, column=position - text.rfind("\n", 0, position),
    )  # fmt: skip


def _too_long() -> Malformed:
    return Malformed(
        detail=N_("A number has more than %(limit)s digits"), code="number_too_long",
        limit=MAX_DIGITS,
    )  # fmt: skip


def _int(text: str) -> int:
    if len(text.lstrip("-")) > MAX_DIGITS:
        raise _too_long()
    return int(text)


def _decimal(text: str) -> Decimal:
    digits, _, exponent = text.lower().partition("e")
    # an exponent is bounded too: written out, 1e999999999 would fill the memory
    if max(len(digits), len(exponent)) > MAX_DIGITS or abs(int(exponent or 0)) > MAX_DIGITS:
        raise _too_long()
    return Decimal(text)


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise _too_long()
    return value


def _refuse_constant(_: str) -> NoReturn:
    raise Malformed(detail=N_("NaN and Infinity are not JSON"), code="not_finite")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        name = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise Malformed(
            detail=N_("The key %(key)s appears twice in one object"),
            code="duplicate_key", key=json.dumps(name)[:80],
        )  # fmt: skip
    return found


def _decoder(parse_float: Callable[[str], Any]) -> json.JSONDecoder:
    return json.JSONDecoder(
        parse_float=parse_float, parse_int=_int, parse_constant=_refuse_constant,
        object_pairs_hook=_object,
    )  # fmt: skip


_EXACT, _FLOATS = _decoder(_decimal), _decoder(_float)
_SCANNER = json.JSONDecoder(parse_constant=_refuse_constant)


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _end_of_value(text: str, at: int) -> int:
    try:
        return _SCANNER.raw_decode(text, at)[1]
    except json.JSONDecodeError as error:
        raise _not_json(text, error.pos) from None
    except ValueError:  # the interpreter's own limit on digits
        raise _too_long() from None


def _number(value: Decimal) -> str:
    if not value.is_finite():
        raise ValueError("NaN and Infinity cannot be written as JSON")
    exponent = value.as_tuple().exponent
    plain = isinstance(exponent, int) and exponent <= 0 and value.adjusted() >= -_PLAIN_ZEROS
    return format(value, "f") if plain else str(value)


def _fragment(value: Any) -> Any:
    if isinstance(value, Decimal):
        return orjson.Fragment(_number(value))
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def _refuse_not_finite(value: Any) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("NaN and Infinity cannot be written as JSON")
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            _refuse_not_finite(item)


def _write(value: Any, put: Callable[[str], None], *, sort_keys: bool) -> None:
    """Write what orjson cannot; agrees with it byte for byte on what both can."""
    if isinstance(value, str):
        put(encode_basestring(value))
    elif isinstance(value, dict):
        mark = "{"
        for key, item in sorted(value.items()) if sort_keys else value.items():
            if not isinstance(key, str):
                raise TypeError("keys must be text")
            put(mark + encode_basestring(key) + ":")
            _write(item, put, sort_keys=sort_keys)
            mark = ","
        put("}" if mark == "," else "{}")
    elif isinstance(value, (list, tuple)):
        mark = "["
        for item in value:
            put(mark)
            _write(item, put, sort_keys=sort_keys)
            mark = ","
        put("]" if mark == "," else "[]")
    elif isinstance(value, Decimal):
        put(_number(value))
    elif isinstance(value, int) and not isinstance(value, bool):
        put(str(int(value)))
    else:
        _refuse_not_finite(value)
        put(orjson.dumps(value, default=_fragment, option=_OPTIONS).decode())

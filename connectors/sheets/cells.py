"""Cells: a text of a sheet made what a field wants, or said what is wrong with it."""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation
from typing import Any

from connectors.engine.findings import Say, say
from connectors.sheets.fields import SheetField

BEIJING = timezone(timedelta(hours=8))
_MOMENT = re.compile(
    r"(\d{4})[-/.年](\d{1,2})[-/.月](\d{1,2})日?"
    r"(?:[ T]*(\d{1,2})[:时](\d{1,2})(?:[:分](\d{1,2})(?:\.\d+)?)?[分秒]?)?\s*(Z|[+-]\d{2}:?\d{2})?"
)
_TRUE = {"true", "yes", "y", "1", "是", "对", "有", "√"}
_FALSE = {"false", "no", "n", "0", "否", "错", "无", "×"}
_SIGNS = str.maketrans("", "", "¥￥$€, ，元")
_PARTS = re.compile(r"[、;；\n]+")


class BadCell(Exception):  # noqa: N818 - it says what the cell is
    """A cell cannot be what its field wants; `say` tells why in both languages."""

    def __init__(self, sentence: Say) -> None:
        """Keep the sentence."""
        super().__init__(sentence["en"])
        self.say = sentence


def value_of(field: SheetField, text: str) -> Any:
    """Return a cell's value for a field; raises BadCell."""
    if field.kind == "list":
        return [part.strip() for part in _PARTS.split(text) if part.strip()]
    if field.kind == "boolean":
        return _truth(text)
    if field.kind in ("integer", "number"):
        return _number(text, is_whole=field.kind == "integer")
    if field.is_moment:
        return moment(text)
    if field.schema.get("format") == "date":
        return moment(text)[:10]
    if is_decimal(field):
        return _decimal(text)
    labels = field.schema.get("x-labels")
    if isinstance(labels, Mapping):
        return _labelled(text, labels)
    return _bounded(field, text)


def is_decimal(field: SheetField) -> bool:
    """Tell whether a text field holds a figure, such as the value of money."""
    pattern = str(field.schema.get("pattern", ""))
    named = [part for part in field.path if part != "[]"]
    return named[-1] == "value" or ("\\." in pattern and "[0-9]" in pattern and "T" not in pattern)


def _bounded(field: SheetField, text: str) -> str:
    most = field.schema.get("maxLength")
    if isinstance(most, int) and len(text) > most:
        raise BadCell(say(f"最多 {most} 个字", f"{most} characters at most"))
    choices = field.schema.get("enum")
    if isinstance(choices, list) and text not in choices:
        shown = "、".join(map(str, choices[:8]))
        raise BadCell(say(f"只能是：{shown}", f"One of: {shown.replace('、', ', ')}"))
    pattern = field.schema.get("pattern")
    if isinstance(pattern, str) and not _fits(pattern, text):
        raise BadCell(say("格式不对", "This is not written as it must be"))
    return text


def _fits(pattern: str, text: str) -> bool:
    try:
        return bool(re.search(pattern, text[:300]))
    except re.error:
        return True  # the schema's own validator has the last word


def _labelled(text: str, labels: Mapping[str, Any]) -> str:
    """Return the code of what people call a thing."""
    for code, title in labels.items():
        if text == code or text in (title.values() if isinstance(title, Mapping) else ()):
            return code
    return text


def _truth(text: str) -> bool:
    low = text.strip().lower()
    if low in _TRUE:
        return True
    if low in _FALSE:
        return False
    raise BadCell(say("请写“是”或“否”", "Write yes or no"))


def _decimal(text: str) -> str:
    """Return a figure as decimal text, its digits as they are."""
    bare = text.translate(_SIGNS)
    try:
        found = Decimal(bare)
    except InvalidOperation as bad:
        raise BadCell(say("这里须是数字", "A number is needed here")) from bad
    if not found.is_finite() or abs(found) >= Decimal(10) ** 18:
        raise BadCell(say("数字太大", "The number is too large"))
    written = format(found, "f")
    if written.startswith("-0") and not found:
        written = written.removeprefix("-")
    return written


def _number(text: str, *, is_whole: bool) -> Any:
    written = _decimal(text)
    whole = written.partition(".")
    if not whole[2].strip("0"):
        return int(whole[0])
    if is_whole:
        raise BadCell(say("这里须是整数", "A whole number is needed here"))
    return Decimal(written)


def moment(text: str) -> str:
    """Return a point in time as RFC 3339; without a zone it is Beijing's. Raises BadCell."""
    found = _MOMENT.fullmatch(text.strip())
    if not found:
        raise BadCell(say("请写成 2026-11-22 09:30", "Write it as 2026-11-22 09:30"))
    parts = [int(part or 0) for part in found.groups()[:6]]
    try:
        year, month, day, hour, minute, second = parts
        at = datetime(year, month, day, hour, minute, second, tzinfo=BEIJING)
    except ValueError as bad:
        raise BadCell(say("没有这个日期", "There is no such date")) from bad
    if found[7] == "Z":
        return at.strftime("%Y-%m-%dT%H:%M:%SZ")
    zone = found[7] or "+08:00"
    zone = zone if ":" in zone else f"{zone[:3]}:{zone[3:]}"
    return at.strftime("%Y-%m-%dT%H:%M:%S") + zone

"""How the vocabulary grows: what was published, what may change in place, what needs a version.

`event_types/published.json` holds what every version says of its data, without words, as it was
last recorded. The files beside it may say more by now, never less: `findings` compares them.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from catalog import event_types, schema_changes
from catalog.event_types import FOLDER, SHAPES
from catalog.schema_changes import Change

PUBLISHED = "published.json"
# A type's contract: {"natural_key": […], "key_if_given": […], "schema": {…}}
Contract = dict[str, Any]
# What breaks a promise, and what only has to be written down.
BREAKING = frozenset({"changed", "key", "withdrawn", "gap", "needless"})
SAYINGS = {
    "changed": {
        "zh": "{where} {change}：需要新版本，请另存为 v{next}",
        "en": "{where} {change}: this needs a new version, save it as v{next}",
    },
    "key": {
        "zh": "识别字段变了：需要新版本，请另存为 v{next}",
        "en": "the natural key changed: this needs a new version, save it as v{next}",
    },
    "withdrawn": {
        "zh": "已公布的版本不见了：事件里还带着它，请放回来",
        "en": "a published version is gone: events still carry it, put it back",
    },
    "gap": {
        "zh": "前一个版本不存在：版本号从 1 起逐个加一",
        "en": "the version before it does not exist: versions count up from 1",
    },
    "needless": {
        "zh": "与上一版兼容：不需要新版本，直接改上一版",
        "en": "is compatible with the version before it: change that one instead",
    },
    "grown": {
        "zh": "{where} {change}：兼容，尚未登记",
        "en": "{where} {change}: compatible, not recorded yet",
    },
    "new": {"zh": "新的版本，尚未登记", "en": "a new version, not recorded yet"},
}
CHANGE_WORDS = {
    "added": {"zh": "新增可选字段", "en": "is a new optional field"},
    "optional": {"zh": "改为可以不填", "en": "may be left out now"},
    "widened": {"zh": "放宽了规则", "en": "has wider rules"},
    "removed": {"zh": "被删除", "en": "was removed"},
    "renamed": {"zh": "改了名字", "en": "was renamed"},
    "kind": {"zh": "换了类型", "en": "is of another kind"},
    "needed": {"zh": "变成必填", "en": "is needed now"},
    "narrowed": {"zh": "收紧了规则", "en": "has narrower rules"},
    "unclear": {"zh": "改了无法判断宽窄的规则", "en": "has other rules, wider or not"},
}


@dataclass(frozen=True)
class Finding:
    """Something to do about one version of a type: `what` is a key of SAYINGS."""

    what: str
    name: str
    version: int
    change: Change | None = None

    @property
    def is_breaking(self) -> bool:
        """Tell whether a promise is broken; everything else only has to be recorded."""
        return self.what in BREAKING

    def plain(self, language: str) -> str:
        """Say it in one line."""
        words = plain_change(self.change, language) if self.change else ""
        where = self.change.path or "/" if self.change else ""
        said = SAYINGS[self.what][language]
        line = said.format(where=where, change=words, next=self.version + 1)
        return f"{self.name} v{self.version}: {line}"


def plain_change(change: Change, language: str) -> str:
    """Say what changed, with what was and what is."""
    words = CHANGE_WORDS[change.what][language]
    if change.before or change.after:
        words += f" ({change.before or '–'} → {change.after or '–'})"
    return words


# --- contracts -----------------------------------------------------------------------------------


def without_words(value: Any) -> Any:
    """Copy a schema without what only people read: titles, explanations, labels."""
    if isinstance(value, list):
        return [without_words(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {}
    for word, item in value.items():
        if word in ("properties", "$defs"):
            kept[word] = {name: without_words(part) for name, part in item.items()}
        elif not word.startswith("x-") and word not in ("$schema", "title", "description"):
            kept[word] = without_words(item)
    return kept


def read(folder: Path) -> dict[str, Any]:
    """Read a folder of event types as {"shapes": {…}, "types": {"order.paid.v1": Contract}}."""
    types = {}
    for path in sorted(folder.glob("*.v*.json")):
        raw = json.loads(path.read_text("utf-8"))
        types[f"{raw['name']}.v{raw['version']}"] = {
            "natural_key": raw["natural_key"],
            "key_if_given": raw.get("key_if_given", []),
            "schema": without_words(raw["schema"]),
        }
    shapes = json.loads((folder / "shapes.json").read_text("utf-8"))["$defs"]
    return {"shapes": without_words({"$defs": shapes})["$defs"], "types": types}


@cache
def recorded() -> dict[str, Any]:
    """Return what was last recorded, shaped like `read`."""
    found: dict[str, Any] = json.loads((FOLDER / PUBLISHED).read_text("utf-8"))
    return found


def written(vocabulary: dict[str, Any]) -> str:
    """Write a vocabulary with one line for each type, so that a difference can be read."""
    parts = []
    for group in ("shapes", "types"):
        lines = [
            f"  {json.dumps(name)}: {json.dumps(one, ensure_ascii=False, sort_keys=True)}"
            for name, one in sorted(vocabulary[group].items())
        ]
        parts.append(f" {json.dumps(group)}: {{\n" + ",\n".join(lines) + "\n }")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _whole(vocabulary: dict[str, Any], key: str) -> dict[str, Any]:
    """Return a type's schema with the shapes it was written against."""
    schema: dict[str, Any] = _pointing_inside(vocabulary["types"][key]["schema"])
    return {**schema, "$defs": vocabulary["shapes"]}


def _pointing_inside(value: Any) -> Any:
    if isinstance(value, list):
        return [_pointing_inside(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        word: item.replace(SHAPES, "#/$defs/")
        if word == "$ref" and isinstance(item, str)
        else _pointing_inside(item)
        for word, item in value.items()
    }


# --- judging -------------------------------------------------------------------------------------


def findings(now: dict[str, Any], before: dict[str, Any]) -> list[Finding]:
    """Say what stands between a vocabulary and what was published of it; nothing is good news."""
    found = []
    for key in sorted(before["types"].keys() | now["types"].keys()):
        name, _, number = key.rpartition(".v")
        version = int(number)
        if key not in now["types"]:
            found.append(Finding("withdrawn", name, version))
        elif key not in before["types"]:
            found.append(Finding("new", name, version))
        else:
            found += _grown(now, before, name, version)
    return found + list(_sequence(now))


def _grown(
    now: dict[str, Any], before: dict[str, Any], name: str, version: int
) -> Iterator[Finding]:
    key = f"{name}.v{version}"
    for change in schema_changes.changes(_whole(before, key), _whole(now, key)):
        what = "changed" if change.needs_version else "grown"
        yield Finding(what, name, version, change)
    if _keys(now, key) != _keys(before, key):
        yield Finding("key", name, version)


def _sequence(now: dict[str, Any]) -> Iterator[Finding]:
    """Look at the versions of a type one after another."""
    for key in sorted(now["types"]):
        name, _, number = key.rpartition(".v")
        version, earlier = int(number), f"{name}.v{int(number) - 1}"
        if version == 1:
            continue
        if earlier not in now["types"]:
            yield Finding("gap", name, version)
            continue
        changes = schema_changes.changes(_whole(now, earlier), _whole(now, key))
        if not schema_changes.needs_version(changes) and _keys(now, key) == _keys(now, earlier):
            yield Finding("needless", name, version)


def _keys(vocabulary: dict[str, Any], key: str) -> tuple[list[str], list[str]]:
    contract = vocabulary["types"][key]
    return contract["natural_key"], contract["key_if_given"]


def changed_key(old: event_types.EventType, new: event_types.EventType) -> bool:
    """Tell whether two versions tell events apart by other fields."""
    return (old.natural_key, old.key_if_given) != (new.natural_key, new.key_if_given)

"""Effect keys in a request's body: a number of ours that the app accepts once."""

import hashlib
import re
from typing import Any

from connectors.engine.auth import CannotBuild
from connectors.engine.connector import KeyField
from connectors.engine.drafts import Draft
from connectors.engine.findings import say

_NOT_ALNUM = re.compile(r"[^0-9A-Za-z]")


def shaped(effect_key: str, field: KeyField) -> str:
    """Return an effect key in the shape an app takes, shortened by a hash where it must be."""
    if field.shape == "digits":
        number = int(hashlib.sha256(effect_key.encode()).hexdigest(), 16)
        return str(number % 10**field.max).zfill(field.max)
    text = _NOT_ALNUM.sub("", effect_key) if field.shape == "alnum" else effect_key
    if len(text) <= field.max:
        return text
    return hashlib.sha256(effect_key.encode()).hexdigest()[: field.max]


def put(draft: Draft, field: KeyField, effect_key: str) -> str:
    """Write the key into the body unless the input gave one there; return what stands there."""
    names = [part.replace("~1", "/").replace("~0", "~") for part in field.pointer.split("/")[1:]]
    if draft.form is not None:
        given = dict(draft.form).get(names[0])
        if given:
            return given
        draft.put("form", {names[0]: shaped(effect_key, field)})
        return shaped(effect_key, field)
    if not draft.has_json or draft.json is None:
        draft.json = {}
        draft.default("Content-Type", "application/json")
    draft.json, key = _with(draft.json, names, shaped(effect_key, field))
    return key


def _with(value: Any, names: list[str], key: str) -> tuple[Any, str]:
    """Return the value with the key in its place, and what stands there; changes nothing."""
    if not isinstance(value, dict):
        text = say("请求里没有放编号的位置", "The request has no place for the number")
        raise CannotBuild("config", text, "/json")
    known = value.get(names[0])
    if len(names) == 1:
        key = key if known in (None, "") else str(known)
        return ({**value, names[0]: key} if known in (None, "") else value), key
    inside, key = _with({} if known is None else known, names[1:], key)
    return {**value, names[0]: inside}, key

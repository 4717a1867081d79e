"""Type rules: how a source turns an envelope into a named fact."""

import re
from collections.abc import Mapping
from typing import Any

from kernel import documents
from kernel.errors import N_, FieldError, Invalid
from webhooks.envelopes import Envelope, moment, read_version

ORIGINS = ("envelope", "fixed", "header", "pointer")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./:\-]{0,199}")
_POINTERS = ("id_pointer", "time_pointer", "subject_pointer", "data_pointer", "version_pointer")
_MISSING = object()


def check(rules: Mapping[str, Any]) -> None:
    """Refuse rules that could never name a type; raises Invalid with a pointer per mistake."""
    errors: list[FieldError] = []
    origin = rules.get("from", "envelope")
    if origin not in ORIGINS:
        errors.append({"pointer": "/type_rules/from", "message": N_("This is not one of the ways")})
    if origin != "envelope" and not str(rules.get("value") or ""):
        errors.append({"pointer": "/type_rules/value", "message": N_("This is needed here")})
    if origin == "fixed" and not is_name(str(rules.get("value") or "")):
        errors.append(
            {"pointer": "/type_rules/value", "message": N_("This is not an event type name")}
        )
    pointers = [*_POINTERS, *(["value"] if origin == "pointer" else [])]
    errors += [
        {"pointer": f"/type_rules/{name}", "message": N_("A JSON pointer starts with a slash")}
        for name in pointers
        if rules.get(name) and not str(rules[name]).startswith("/")
    ]
    if errors:
        raise Invalid(errors=errors)


def is_name(name: str) -> bool:
    """Tell whether a text may be an event type's name."""
    return bool(_NAME.fullmatch(name))


def apply(rules: Mapping[str, Any], envelope: Envelope, headers: Mapping[str, str]) -> None:
    """Complete the envelope in place; what cannot be found is added to its `errors`."""
    origin = rules.get("from", "envelope")
    if envelope.errors:
        return
    whole, raw = envelope.value, envelope.body
    if origin == "envelope":
        _unwrap(envelope)
    elif origin == "fixed":
        envelope.type = str(rules.get("value"))
    elif origin == "header":
        envelope.type = headers.get(str(rules.get("value")).lower())
    else:
        envelope.type = _text(look_up(whole, str(rules.get("value"))))
    if envelope.type and rules.get("prefix") and not envelope.is_wrapped:
        envelope.type = f"{rules['prefix']}{envelope.type}"
    _complete(rules, envelope, whole, raw)
    if not envelope.type or not is_name(envelope.type):
        envelope.errors.append(
            {
                "pointer": str(rules["value"]) if origin == "pointer" else "/type",
                "message": N_("The event type is missing or is not a name"),
            }
        )
        envelope.type = None


def _unwrap(envelope: Envelope) -> None:
    """Take `{type, timestamp, data}`, the shape Standard Webhooks recommends, apart."""
    value = envelope.value
    if envelope.is_wrapped or not isinstance(value, dict):
        return
    envelope.type = _text(value.get("type"))
    own_id = value.get("id")
    envelope.id = own_id if isinstance(own_id, str) else None
    for name in ("timestamp", "time", "occurred_at"):
        if isinstance(value.get(name), str):
            envelope.occurred_at = moment(value[name])
            break
    if isinstance(value.get("subject"), str):
        envelope.subject = value["subject"]
    if envelope.type and "data" in value:
        envelope.body = documents.member(envelope.body, "data", value)
        envelope.value = value["data"]


def _complete(rules: Mapping[str, Any], envelope: Envelope, whole: Any, raw: bytes) -> None:
    if rules.get("id_pointer"):
        envelope.id = _text(look_up(whole, str(rules["id_pointer"]))) or envelope.id
    if rules.get("subject_pointer"):
        found = _text(look_up(whole, str(rules["subject_pointer"])))
        envelope.subject = found or envelope.subject
    if rules.get("version_pointer"):
        pointer = str(rules["version_pointer"])
        found_version = look_up(whole, pointer)
        if found_version is not _MISSING:
            envelope.version = read_version(found_version, envelope.errors, pointer)
    if rules.get("time_pointer"):
        found = _text(look_up(whole, str(rules["time_pointer"])))
        envelope.occurred_at = (moment(found) if found else None) or envelope.occurred_at
    if rules.get("data_pointer"):
        data = look_up(whole, str(rules["data_pointer"]))
        if data is _MISSING:
            envelope.errors.append(
                {"pointer": str(rules["data_pointer"]), "message": N_("There is nothing here")}
            )
        else:
            envelope.value = data
            envelope.body = _cut_out(raw, whole, str(rules["data_pointer"]))
    if rules.get("version") and envelope.version is None:
        envelope.version = read_version(rules["version"], envelope.errors)


def _cut_out(raw: bytes, value: Any, pointer: str) -> bytes:
    """Return the exact bytes of what `look_up` found in a document."""
    for key in _keys(pointer):
        if isinstance(value, dict):
            raw, value = documents.member(raw, key, value), value[key]
        else:
            place = int(key)
            pieces = documents.split_array(raw, len(value), len(raw))
            raw, value = pieces[place], value[place]
    return raw


def _text(value: Any) -> str | None:
    if isinstance(value, str):
        return value[:500] or None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return None


def _keys(pointer: str) -> list[str]:
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def look_up(value: Any, pointer: str) -> Any:
    """Follow an RFC 6901 pointer; gives a private marker, never equal to data, for nothing."""
    for key in _keys(pointer):
        if isinstance(value, dict) and key in value:
            value = value[key]
        elif isinstance(value, list) and key.isascii() and key.isdigit() and len(key) < 7:
            if int(key) >= len(value):
                return _MISSING
            value = value[int(key)]
        else:
            return _MISSING
    return value

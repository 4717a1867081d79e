"""Plain words for what a JSON Schema finds wrong, one sentence per rule."""

from collections.abc import Callable
from typing import Any

from jsonschema.exceptions import ValidationError

from catalog.schema_costs import escape
from kernel.errors import N_

_TYPES = {
    "object": N_("an object"),
    "array": N_("a list"),
    "string": N_("text"),
    "number": N_("a number"),
    "integer": N_("a whole number"),
    "boolean": N_("true or false"),
    "null": N_("null"),
}
_SENTENCES = {
    "enum": N_("Must be one of: %(limit)s"),
    "const": N_("Must be exactly %(limit)s"),
    "pattern": N_("Does not have the expected form %(limit)s"),
    "format": N_("Is not a valid %(limit)s"),
    "minLength": N_("Is too short: at least %(limit)s characters"),
    "maxLength": N_("Is too long: at most %(limit)s characters"),
    "minimum": N_("Is too small: at least %(limit)s"),
    "maximum": N_("Is too large: at most %(limit)s"),
    "exclusiveMinimum": N_("Must be greater than %(limit)s"),
    "exclusiveMaximum": N_("Must be less than %(limit)s"),
    "multipleOf": N_("Must be a multiple of %(limit)s"),
    "minItems": N_("Has too few entries: at least %(limit)s"),
    "maxItems": N_("Has too many entries: at most %(limit)s"),
    "minProperties": N_("Has too few fields: at least %(limit)s"),
    "maxProperties": N_("Has too many fields: at most %(limit)s"),
    "uniqueItems": N_("Has the same entry twice"),
    "additionalProperties": N_("This field is not known here"),
    "anyOf": N_("Fits none of the allowed forms"),
    "oneOf": N_("Must fit exactly one of the allowed forms"),
    "not": N_("Has a form that is not allowed"),
    "contains": N_("Lacks an entry that must be there"),
}
_OTHER = N_("Does not fit the rule “%(limit)s”")
Words = tuple[str, str, dict[str, Any]]
# The edge puts its translator here, so that findings come in the reader's language.
TRANSLATORS: list[Callable[[str], str]] = []


def say(msgid: str, **params: Any) -> str:
    """Return a finding's words, in the reader's language when somebody is reading."""
    for translate in TRANSLATORS:
        msgid = translate(msgid)
    return msgid % params if params else msgid


def type_words(names: Any) -> list[str]:
    """Return the message ids of JSON type names."""
    return [_TYPES.get(name, name) for name in ([names] if isinstance(names, str) else names)]


def words_for(error: ValidationError) -> Words:
    """Return (pointer of a missing field below the error, message id, parameters)."""
    rule, limit = str(error.validator), error.validator_value
    if rule == "required":
        name = _missing_name(error)
        return f"/{escape(name)}", N_("This field is missing"), {}
    if rule == "dependentRequired":
        return "", N_("Another field that belongs to it is missing"), {}
    if rule == "type":
        return "", N_("Must be %(limit)s"), {"limit": _either(type_words(limit))}
    if error.schema is False or rule == "None":
        return "", _SENTENCES["additionalProperties"], {}
    if rule in _SENTENCES:
        return "", _SENTENCES[rule], {"limit": _short(limit)}
    return "", _OTHER, {"limit": rule}


def words_of(kind: Any) -> Words:
    """Return the same for what the fast validator says of its first finding."""
    rule, limit = str(kind.name), kind.value
    if rule == "required":
        return f"/{escape(str(kind.property))}", N_("This field is missing"), {}
    if rule == "type":
        return "", N_("Must be %(limit)s"), {"limit": _either(type_words(limit))}
    if rule == "additionalProperties":
        return f"/{escape(str(kind.unexpected[0]))}", _SENTENCES[rule], {}
    if rule == "falseSchema":
        return "", _SENTENCES["additionalProperties"], {}
    if rule in _SENTENCES:
        return "", _SENTENCES[rule], {"limit": _short(limit)}
    return "", _OTHER, {"limit": rule}


def _missing_name(error: ValidationError) -> str:
    """Find the one required name this error is about; jsonschema reports each on its own."""
    instance = error.instance if isinstance(error.instance, dict) else {}
    wanted: Any = error.validator_value
    missing = [name for name in wanted if name not in instance]
    for name in missing:
        if error.message.startswith(repr(name)):
            return str(name)
    return str(missing[0]) if missing else ""


def _either(words: list[str]) -> str:
    return " / ".join(say(word) for word in words)


def _short(value: Any) -> str:
    if isinstance(value, list):
        shown = ", ".join(str(item) for item in value[:12])
        return shown + (" …" if len(value) > 12 else "")
    return str(value)[:120]

"""Small parts of a manifest that several of its larger ones have: envelopes, rules, sureness."""

from collections.abc import Mapping
from typing import Any

from connectors.engine.connector import Envelope, ErrorRule, Find, KeyField


def envelope(stated: dict[str, Any]) -> Envelope:
    """Return how an app wraps its answers."""
    return Envelope(stated.get("ok"), stated.get("data"), stated.get("error"))


def rules(stated: list[dict[str, Any]]) -> tuple[ErrorRule, ...]:
    """Return error rules as the manifest states them."""
    return tuple(
        ErrorRule(
            rule["when"],
            rule["do"],
            rule.get("class"),
            rule.get("say"),
            rule.get("after"),
            **known(rule),
        )
        for rule in stated
    )


def known(part: Mapping[str, Any]) -> dict[str, Any]:
    """Return how sure the manifest is of a part, and who says so."""
    return {"confidence": part.get("confidence", "documented"), "source": part.get("source")}


def repeating(stated: Mapping[str, Any]) -> dict[str, Any]:
    """Return how an app tells a repetition: by a number of ours, or by being asked."""
    found = stated.get("find")
    field = stated.get("field")
    return {
        "key_field": KeyField(field, stated.get("max", 64), stated.get("shape", "text"))
        if field
        else None,
        "find": Find(found["action"], {"object": found.get("with", {})}, found["then"])
        if found
        else None,
    }

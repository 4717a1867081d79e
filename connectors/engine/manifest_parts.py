"""Small parts of a manifest that several of its larger ones have: envelopes, rules, sureness."""

from collections.abc import Mapping
from typing import Any

from connectors.engine.connector import Envelope, ErrorRule


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

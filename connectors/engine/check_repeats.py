"""Rules about how an action is told from its repetition: a number in the body, or a look before."""

from collections.abc import Iterator

from connectors.engine import mapping
from connectors.engine.connector import Action, Connector
from connectors.engine.findings import Problem, say

FOUND = frozenset({"data", "input", "settings", "effect_key"})


def problems(place: str, action: Action, connector: Connector) -> Iterator[tuple[str, Problem]]:
    """Return what is wrong with an action's idempotency."""
    if action.key_field is not None and action.request.raw is not None:
        text = say("raw 的内容里放不进编号", "A raw body has no place for a number")
        yield place, Problem("", text)
    find = action.find
    if find is None:
        return
    asked = connector.actions.get(find.action)
    if asked is None or asked.effect != "read":
        text = say(
            f"find 要用一个读取动作，{find.action} 不是",
            f"find takes an action that reads; {find.action} is none",
        )
        yield f"{place}/find/action", Problem("", text)
        return
    text_schema = {"type": "string"}
    sources = {"input": action.input, "settings": connector.settings, "effect_key": text_schema}
    for wrong in mapping.check_mapping(
        find.given, sources, asked.input, frozenset(sources) | {"item", "index"}
    ):
        yield f"{place}/find/with", wrong
    for wrong in mapping.check_mapping(find.then, None, action.output, FOUND):
        yield f"{place}/find/then", wrong

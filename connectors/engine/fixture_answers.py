"""Fixtures of actions and lifecycle steps: what their recorded answers must be read as."""

from connectors.engine import answers, paging, parts
from connectors.engine.answers import Answer
from connectors.engine.connector import Connector
from connectors.engine.findings import Finding, say
from connectors.engine.fixtures import (
    EFFECT_KEY,
    Fixture,
    as_json,
    look_of,
    outcome_of,
    same,
)
from kernel.http import Response


def check_answer(connector: Connector, fixture: Fixture) -> list[Finding]:
    """Compare what the engine reads from the recorded response with what is expected."""
    if "refused" in fixture.value:
        return []
    answer = _read(connector, fixture)
    wanted = fixture.value.get("answer", {"kind": "ok"})
    findings = [
        fixture.finding(
            "C05",
            say(
                f"回应读作 {name} = {getattr(answer, name)}，样例写的是 {wanted[name]}："
                "请照应用的原样记录回应（连同信封），或改 envelope、errors",
                f"The response reads as {name} = {getattr(answer, name)}, the fixture says "
                f"{wanted[name]}: record it as the app sends it, envelope and all, or correct "
                "envelope or errors",
            ),
            f"/answer/{name}",
        )
        for name in ("kind", "cause", "is_duplicate", "detail")
        if name in wanted and getattr(answer, name) != wanted[name]
    ]
    if findings or answer.kind != "ok":
        return findings
    if answer.detail and "detail" not in wanted and not answer.is_duplicate:
        text = say(
            f"回应不符合输出模式：{answer.detail}",
            f"The response does not fit the output schema: {answer.detail}",
        )
        return [fixture.finding("C05", text, "/response")]
    if not same(answer.output, fixture.value.get("output")):
        text = say(
            f"输出应为 {as_json(answer.output)}", f"The output should be {as_json(answer.output)}"
        )
        return [fixture.finding("C05", text, "/output")]
    return _following(connector, fixture)


def _read(connector: Connector, fixture: Fixture) -> Answer:
    """Read what is recorded: of a list one page, of a batch what became of its items."""
    outcome = outcome_of(fixture)
    if fixture.kind != "action":
        return answers.read_lifecycle(connector, fixture.key, outcome)
    action = connector.actions[fixture.key]
    if action.batch is None:
        look = None
        if action.pages is not None:
            look = look_of(action, fixture) or paging.begin(action.pages)["look"]
        return answers.read(connector, action.key, outcome, look=look)
    given = fixture.value.get("input", action.sample.get("input"))
    begun = parts.begin(action, given, str(fixture.value.get("effect_key", EFFECT_KEY)))
    return parts.take(connector, action, given, begun, outcome)[0]


def following(connector: Connector, fixture: Fixture) -> object:
    """Return what the page after a recorded one is asked for with, None after the last.

    Raises paging.Unpaged.
    """
    action, outcome = connector.actions[fixture.key], outcome_of(fixture)
    pages = action.pages
    assert pages is not None
    assert isinstance(outcome, Response)
    look = look_of(action, fixture) or paging.begin(pages)["look"]
    answer = answers.read(connector, action.key, outcome, look=look)
    came = {**paging.begin(pages), "look": look, "items": [None] * look["offset"]}
    facts = answers.facts_of(action.envelope, outcome)
    after, is_last = paging.add(pages, came, answer.output, facts)
    found = {name: value for name, value in after["look"].items() if name != "size"}
    return None if is_last else found


def _following(connector: Connector, fixture: Fixture) -> list[Finding]:
    """Compare how the list goes on with what is expected; each fixture of a list says it."""
    if fixture.kind != "action" or connector.actions[fixture.key].pages is None:
        return []
    try:
        found = following(connector, fixture)
    except paging.Unpaged as lost:
        return [fixture.finding("C05", lost.say, "/response")]
    if "following" in fixture.value and same(found, fixture.value["following"]):
        return []
    told = as_json(found)
    text = say(f"下一页应为 following: {told}", f"It should say following: {told}")
    return [fixture.finding("C05", text, "/following")]

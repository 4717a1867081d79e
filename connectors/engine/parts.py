"""Actions in parts: several requests that are one step, taken up where they were left.

Nothing is sent here. Whoever calls keeps the progress, a plain document, until an answer is no
longer `more`: begin → (look → request → take) as often as it takes.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from connectors.engine import answers, batches, paging
from connectors.engine.answers import SENTENCES, Answer
from connectors.engine.connector import Action, Connector
from connectors.engine.findings import say
from kernel.http import Failure, Response

Progress = dict[str, Any]
MORE = "more"  # the kind of an answer after which the next request follows


def begin(
    action: Action, given: Any, effect_key: str, kept: Mapping[str, Any] | None = None
) -> Progress:
    """Return the progress to start with, or to go on with when some was kept; an EngineError
    where the input is no list.
    """
    if action.batch is not None:
        return batches.begin(action.batch, given, effect_key, kept)
    assert action.pages is not None
    return dict(kept) if kept else paging.begin(action.pages)


def look(action: Action, given: Any, progress: Progress) -> Mapping[str, Any]:
    """Return what the next request may read as `look`."""
    if action.batch is not None:
        return batches.look(action.batch, given, progress)
    found: Mapping[str, Any] = progress["look"]
    return found


def is_nothing(action: Action, progress: Progress) -> bool:
    """Tell whether there is nothing to send: a batch without items, or with all of them done."""
    return action.batch is not None and not batches.chunk(action.batch, progress)


def take(
    connector: Connector,
    action: Action,
    given: Any,
    progress: Progress,
    outcome: Response | Failure | None,
    attempt_no: int = 1,
) -> tuple[Answer, Progress]:
    """Return what an outcome means, and the progress after it.

    The answer's kind is `more` when the next request follows. Without an outcome, for a batch with
    nothing to send, it is what is there already.
    """
    if outcome is None:
        return _settled(connector, progress, attempt_no), progress
    if action.batch is not None:
        return _take_results(connector, action, given, progress, outcome, attempt_no)
    return _take_page(connector, action, progress, outcome, attempt_no)


def _take_page(
    connector: Connector,
    action: Action,
    progress: Progress,
    outcome: Response | Failure,
    attempt_no: int,
) -> tuple[Answer, Progress]:
    answer = answers.read(connector, action.key, outcome, attempt_no, progress["look"])
    if answer.kind != "ok" or isinstance(outcome, Failure):
        return answer, progress
    pages = action.pages
    assert pages is not None
    try:
        facts = answers.facts_of(action.envelope, outcome)
        after, is_last = paging.add(pages, progress, answer.output, facts)
        if not is_last and not paging.is_full(pages, after):
            return Answer(MORE), after
        whole = paging.joined(pages, after, is_whole=is_last)
    except paging.Unpaged as lost:
        return Answer("fail", cause="data", say=lost.say, detail=answer.detail), progress
    return replace(answer, output=whole), after


def _take_results(
    connector: Connector,
    action: Action,
    given: Any,
    progress: Progress,
    outcome: Response | Failure,
    attempt_no: int,
) -> tuple[Answer, Progress]:
    whole = answers.read_envelope(connector, action, outcome, attempt_no)
    if whole.kind != "ok" or isinstance(outcome, Failure):
        return whole, progress
    assert action.batch is not None
    facts = answers.facts_of(action.envelope, outcome)
    found = batches.pair(action, given, progress, facts)
    items = [tuple(entry) for entry in progress["items"]]
    for place in batches.chunk(action.batch, progress):
        key = items[place][0]
        if place not in found:
            items[place] = (key, "failed", _unnamed(action))
            continue
        answer = answers.read_item(connector, action, found[place], facts, attempt_no)
        items[place] = (key, *_entry(answer))
    after: Progress = batches.bounded({"items": items})
    if batches.chunk(action.batch, after):
        return Answer(MORE), after
    return _settled(connector, after, attempt_no), after


def _entry(answer: Answer) -> tuple[str, Any]:
    if answer.kind == "ok":
        return "ok", answer.output
    what = {
        "cause": answer.cause or "data",
        "say": dict(answer.say or SENTENCES["data"]),
        "detail": answer.detail,
        "after_seconds": answer.after_seconds,
    }
    return ("again" if answer.kind == "retry" else "failed"), what


def _unnamed(action: Action) -> dict[str, Any]:
    """Return what is said of an item that the answer does not mention."""
    if action.is_idempotent:
        words = say("回应里没有这一项的结果", "The answer does not mention this item")
        return {"cause": "config", "say": words, "detail": "", "after_seconds": None}
    return {"cause": "unknown", "say": SENTENCES["unknown"], "detail": "", "after_seconds": None}


def _settled(connector: Connector, progress: Progress, attempt_no: int) -> Answer:
    """Return what a batch that has nothing more to send comes to."""
    states = {entry[1] for entry in progress["items"]}
    if "again" in states:
        cause, words, detail, seconds = batches.trouble(progress, "again")
        after = answers.retry_after(connector, attempt_no, seconds or 0)
        if after is not None:
            return Answer("retry", after_seconds=after, cause=cause, say=words, detail=detail)
        return Answer("fail", cause=cause, say=words, detail=detail)
    if "failed" in states:
        cause, words, detail, _ = batches.trouble(progress, "failed")
        return Answer("fail", cause=cause, say=words, detail=detail)
    return Answer("ok", output=batches.told(progress))

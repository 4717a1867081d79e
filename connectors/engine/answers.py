"""Answers: a vendor's response read by its envelope and error rules; HTTP 200 is not success."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

from connectors.engine import mapping, schemas, templates
from connectors.engine.auth import CannotBuild
from connectors.engine.connector import (
    Action,
    Connector,
    Envelope,
    ErrorRule,
)
from connectors.engine.expressions import EvaluationError
from connectors.engine.findings import EngineError, Say, say
from connectors.engine.functions import to_text
from connectors.engine.requests import action_of
from kernel import clock, documents
from kernel.errors import Problem
from kernel.http import Failure, Response

MAX_WAIT_SECONDS = 86_400
MAX_DETAIL = 500

SENTENCES: dict[str, Say] = {
    "data": say(
        "对方应用不接受这些内容，请修改后重试",
        "The app refuses this content; please change it and retry",
    ),
    "auth": say(
        "对方应用不认可连接的凭据，请重新连接",
        "The app refuses the credentials; please connect again",
    ),
    "config": say("连接器与对方应用的接口不一致", "The connector and the app do not fit together"),
    "down": say(
        "对方应用暂时没有回应，稍后会自动再试",
        "The app does not answer right now; it will be tried again",
    ),
    "limit": say(
        "对方应用要求放慢速度，稍后会自动再试",
        "The app asks for a slower pace; it will be tried again",
    ),
    "unknown": say(
        "请求已发出，但不知道对方是否已处理；请先到对方应用里核对",
        "The request was sent, but whether the app acted is not known; please look there first",
    ),
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What an answer means: kind ok, retry, reauth or fail, with all that follows from it."""

    kind: str
    output: Any = None
    after_seconds: int | None = None
    cause: str | None = None
    say: Say | None = None
    detail: str = ""
    is_duplicate: bool = False
    is_drift: bool = False  # it does not fit what the manifest promises


@dataclass(frozen=True, slots=True)
class Shape:
    """How the answer of one action or lifecycle step is to be read."""

    envelope: Envelope
    errors: tuple[ErrorRule, ...]
    result: Any
    output: schemas.Schema
    is_read: bool
    is_idempotent: bool
    gone: tuple[int, ...] = ()
    known: Mapping[str, Any] = field(default_factory=dict)  # what the result may read besides


def read(
    connector: Connector,
    action_key: str,
    outcome: Response | Failure,
    attempt_no: int = 1,
    look: Mapping[str, Any] | None = None,
) -> Answer:
    """Return what the outcome of an action's request means; `look` is what a page was asked with.

    Of an action in parts it is one part that is read: one page, or the answer for a few items.
    """
    action = action_of(connector, action_key)
    if action.batch is not None:
        return read_envelope(connector, action, outcome, attempt_no)
    shape = Shape(
        action.envelope,
        action.errors,
        action.result,
        action.output,
        is_read=action.effect == "read",
        is_idempotent=action.is_idempotent,
        known={"look": look} if look else {},
    )
    return read_shape(connector, shape, outcome, attempt_no)


def read_envelope(
    connector: Connector, action: Action, outcome: Response | Failure, attempt_no: int = 1
) -> Answer:
    """Return what the outcome of a batch's request means as a whole, whatever it says of items."""
    shape = Shape(
        action.envelope,
        action.errors,
        None,
        True,
        is_read=False,
        is_idempotent=action.is_idempotent,
    )
    answer = read_shape(connector, shape, outcome, attempt_no)
    if answer.kind != "ok" or isinstance(outcome, Failure) or action.batch is None:
        return answer
    if isinstance(_value(action.batch.results, facts_of(action.envelope, outcome)), list):
        return answer
    cause = "config" if action.is_idempotent else "unknown"
    return Answer("fail", cause=cause, say=SENTENCES[cause], detail="the results are missing")


def read_item(
    connector: Connector, action: Action, result: Any, facts: Mapping[str, Any], attempt_no: int = 1
) -> Answer:
    """Return what an answer says of one item of a batch: `result` is read as a body of its own."""
    batch = action.batch
    assert batch is not None
    shape = Shape(
        batch.envelope,
        batch.errors,
        batch.result,
        batch.output,
        is_read=False,
        is_idempotent=action.is_idempotent,
    )
    return _read_facts(connector, shape, {**facts, "body": result}, attempt_no, is_json=True)


def facts_of(envelope: Envelope, outcome: Response) -> dict[str, Any]:
    """Return an answer as expressions see it: status, header, body and data."""
    header = {name.lower(): value for name, value in outcome.headers.items()}
    body, _ = _body(outcome)
    facts: dict[str, Any] = {"status": outcome.status, "header": header, "body": body}
    return {**facts, "data": body if envelope.data is None else _value(envelope.data, facts)}


def read_lifecycle(
    connector: Connector, step: str, outcome: Response | Failure, attempt_no: int = 1
) -> Answer:
    """Return what the outcome of a lifecycle step means; its output is what the step saves."""
    found = connector.lifecycle.get(step)
    if found is None:
        raise CannotBuild("config", say(f"没有步骤 {step}", f"There is no step {step}"))
    shape = Shape(
        found.envelope,
        found.errors,
        found.save,
        True,
        is_read=True,
        is_idempotent=True,
        gone=found.gone,
    )
    return read_shape(connector, shape, outcome, attempt_no)


def retry_after(connector: Connector, attempt_no: int, minimum_seconds: int = 0) -> int | None:
    """Return the wait before the next try (jittered), or None when the ladder is at its end."""
    ladder = connector.http.ladder_seconds
    if attempt_no > len(ladder):
        return None
    step = ladder[attempt_no - 1]
    spread = step * connector.http.jitter * random.random()  # noqa: S311 - spreads load, no secret
    return max(1, minimum_seconds, round(step + spread))


def read_shape(
    connector: Connector, shape: Shape, outcome: Response | Failure, attempt_no: int
) -> Answer:
    """Return what an outcome means for a call whose answer is read in this shape."""
    if isinstance(outcome, Failure):
        return _failed(connector, shape, outcome, attempt_no)
    header = {name.lower(): value for name, value in outcome.headers.items()}
    body, is_json = _body(outcome)
    facts: dict[str, Any] = {"status": outcome.status, "header": header, "body": body}
    if outcome.status in shape.gone:
        return Answer("ok", output={}, is_duplicate=True)
    return _read_facts(connector, shape, facts, attempt_no, is_json=is_json)


def _read_facts(
    connector: Connector,
    shape: Shape,
    facts: Mapping[str, Any],
    attempt_no: int,
    *,
    is_json: bool,
) -> Answer:
    for rule in shape.errors:
        if _matches(rule.when, facts):
            return _ruled(connector, shape, rule, facts, attempt_no)
    if 200 <= facts["status"] < 300:
        return _success(shape, facts, is_json=is_json)
    return _by_status(connector, shape, facts, attempt_no)


def _body(response: Response) -> tuple[Any, bool]:
    if not response.body.strip():
        return None, False
    try:
        return documents.parse(response.body, max_bytes=8 << 20), True
    except Problem:
        return response.body.decode("utf-8", "replace")[:MAX_DETAIL], False


def _matches(when: Mapping[str, Any], facts: Mapping[str, Any]) -> bool:
    for name, wanted in when.items():
        if name == "status":
            if not _status_fits(facts["status"], wanted):
                return False
        elif name == "test":
            if _value(str(wanted), facts) is not True:
                return False
        else:
            root, _, rest = name.partition(".")
            path = f'header["{rest.lower()}"]' if root == "header" else f"body.{rest}"
            if not _equals(_value("${" + path + "}", facts), wanted):
                return False
    return True


def _status_fits(status: int, wanted: Any) -> bool:
    every = wanted if isinstance(wanted, list) else [wanted]
    return any(
        status == one or (isinstance(one, str) and one.endswith("xx") and one[0] == str(status)[0])
        for one in every
    )


def _equals(value: Any, wanted: Any) -> bool:
    if value is None:
        return wanted is None
    every = wanted if isinstance(wanted, list) else [wanted]
    try:
        text = to_text(value)
        return any(one is not None and to_text(one) == text for one in every)
    except EngineError:
        return False


def _value(text: str | None, facts: Mapping[str, Any]) -> Any:
    """Return what a template says about the answer; None when it does not apply to it."""
    if text is None:
        return None
    try:
        return templates.parse(text).evaluate(facts)
    except EvaluationError:
        return None


def _ruled(
    connector: Connector,
    shape: Shape,
    rule: ErrorRule,
    facts: Mapping[str, Any],
    attempt_no: int,
) -> Answer:
    detail = _detail(shape.envelope, facts)
    if rule.do in ("ok", "ok_duplicate"):
        output = _output(shape, facts)[0]
        return Answer("ok", output=output, detail=detail, is_duplicate=rule.do == "ok_duplicate")
    if rule.do == "reauth":
        return Answer("reauth", cause="auth", say=rule.say or SENTENCES["auth"], detail=detail)
    if rule.do == "fail":
        cause = rule.cause or "data"
        return Answer("fail", cause=cause, say=rule.say or SENTENCES[cause], detail=detail)
    cause = rule.cause or ("limit" if rule.do == "wait" else "down")
    wait = _seconds(rule.after, facts)
    return _again(connector, cause, attempt_no, wait, detail, rule.say)


def _again(
    connector: Connector,
    cause: str,
    attempt_no: int,
    wait: int = 0,
    detail: str = "",
    sentence: Say | None = None,
) -> Answer:
    after = retry_after(connector, attempt_no, wait)
    words = sentence or SENTENCES[cause]
    if after is None:
        return Answer("fail", cause=cause, say=words, detail=detail)
    return Answer("retry", after_seconds=after, cause=cause, say=words, detail=detail)


def _seconds(after: str | int | None, facts: Mapping[str, Any]) -> int:
    value = after if isinstance(after, int) else _value(after, facts)
    if value is None:
        value = facts["header"].get("retry-after")
    text = str(value or "").strip()
    if text.isdecimal():
        return min(int(text[:9]), MAX_WAIT_SECONDS)
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return 0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0, min(int((moment - clock.now()).total_seconds()), MAX_WAIT_SECONDS))


def _success(shape: Shape, facts: Mapping[str, Any], *, is_json: bool) -> Answer:
    ok = shape.envelope.ok
    if ok is not None and _value(ok, facts) is not True:
        detail = _detail(shape.envelope, facts)
        return Answer("fail", cause="data", say=SENTENCES["data"], detail=detail)
    output, drift = _output(shape, facts)
    if not drift:
        return Answer("ok", output=output)
    words = drift if is_json else f"not JSON; {drift}"
    told = replace(Answer("ok", output, detail=words[:MAX_DETAIL]), is_drift=is_json)
    if shape.is_read:
        return replace(told, kind="fail", cause="config", say=SENTENCES["config"])
    # The app did the work: repeating it would be worse than an answer we only half understand.
    return told


def _output(shape: Shape, facts: Mapping[str, Any]) -> tuple[Any, str]:
    """Return the output and, in a few words, how it departs from what the manifest promises."""
    data = facts["body"] if shape.envelope.data is None else _value(shape.envelope.data, facts)
    output = data
    if shape.result is not None:
        try:
            output = mapping.prepare_once(shape.result).apply(
                {**shape.known, **facts, "data": data}
            )
        except mapping.MappingError as lost:
            return data, lost.problems[0].plain()
    wrong = schemas.problems(shape.output, output)
    return output, wrong[0].plain() if wrong else ""


def _by_status(
    connector: Connector, shape: Shape, facts: Mapping[str, Any], attempt_no: int
) -> Answer:
    status, detail = facts["status"], _detail(shape.envelope, facts)
    if status in (408, 425, 429):
        cause = "limit" if status == 429 else "down"
        return _again(connector, cause, attempt_no, _seconds(None, facts), detail)
    if status == 401:
        return Answer("reauth", cause="auth", say=SENTENCES["auth"], detail=detail)
    if status == 403:
        return Answer("fail", cause="auth", say=SENTENCES["auth"], detail=detail)
    if status >= 500:
        if status == 503 or shape.is_idempotent:
            return _again(connector, "down", attempt_no, _seconds(None, facts), detail)
        return Answer("fail", cause="unknown", say=SENTENCES["unknown"], detail=detail)
    cause = "data" if status in (400, 404, 409, 410, 413, 422) else "config"
    return Answer("fail", cause=cause, say=SENTENCES[cause], detail=detail)


def _detail(envelope: Envelope, facts: Mapping[str, Any]) -> str:
    error = _value(envelope.error, facts)
    if isinstance(error, str) and error:
        return error[:MAX_DETAIL]
    body = facts["body"]
    if isinstance(body, dict):
        for name in ("message", "detail", "error_description", "error", "msg", "title"):
            if isinstance(body.get(name), str):
                return str(body[name])[:MAX_DETAIL]
    text = f"HTTP {facts['status']}"
    return f"{text} {body}"[:MAX_DETAIL] if isinstance(body, str) else text


def _failed(connector: Connector, shape: Shape, failure: Failure, attempt_no: int) -> Answer:
    detail = f"{failure.kind}: {failure.detail}"[:MAX_DETAIL]
    if failure.kind == "refused_address":
        words = say("不允许访问这个地址", "This address may not be called")
        return Answer("fail", cause="config", say=words, detail=detail)
    if failure.kind == "invalid_request":
        return Answer("fail", cause="config", say=SENTENCES["config"], detail=detail)
    # A name that does not resolve or a door that stays shut: nothing was sent yet.
    if failure.kind in ("dns", "connect", "tls"):
        return _again(connector, "down", attempt_no, detail=detail)
    if failure.kind == "too_large":
        cause = "config" if shape.is_idempotent else "unknown"
        return Answer("fail", cause=cause, say=SENTENCES[cause], detail=detail)
    if shape.is_idempotent:
        return _again(connector, "down", attempt_no, detail=detail)
    return Answer("fail", cause="unknown", say=SENTENCES["unknown"], detail=detail)

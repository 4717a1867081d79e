"""Grants: what the answer to a token's request says, and when the token ends."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from connectors.engine import answers, templates
from connectors.engine.answers import SENTENCES, Answer, Shape
from connectors.engine.connector import Connector, ErrorRule, Expires, Identity, TokenStep
from connectors.engine.findings import EngineError, say
from connectors.engine.functions import to_int, to_text
from kernel import clock
from kernel.http import Failure, Response

MAX_SECONDS = 400 * 86_400
REFUSED = say(
    "对方没有发给访问令牌，请检查连接里填写的凭据",
    "The app gave no access token; please check the connection's credentials",
)
_ANSWER = {
    "type": "object",
    "required": ["save"],
    "properties": {
        "save": {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": {"type": ["string", "number"]},
        }
    },
}
_NOT_LET_IN = ErrorRule({"status": [400, 401, 403]}, "fail", "auth", REFUSED, None)
_LATER = ErrorRule({"status": ["4xx"]}, "retry", "down", None, None)


@dataclass(frozen=True, slots=True)
class Granted:
    """What a step brought: texts by name, and the moments when they and the consent end."""

    texts: Mapping[str, str]
    ends_at: datetime | None
    grant_ends_at: datetime | None


def read(
    connector: Connector, step: TokenStep, outcome: Response | Failure, *, is_refresh: bool = False
) -> Answer:
    """Return what the outcome of a token's request means; a good one's output is a Granted.

    A refusal is a matter of credentials, in the vendor's words. A refresh that fails for no
    reason the manifest knows is tried again: a consent is not given up for a bad moment.
    """
    other = _LATER if is_refresh else _NOT_LET_IN
    shape = Shape(
        step.envelope,
        (*step.errors, other),
        step.save,
        _ANSWER,
        is_read=True,
        is_idempotent=True,
    )
    answer = answers.read_shape(connector, shape, outcome, 1)
    if answer.kind == "ok":
        return _granted(step, answer)
    if answer.kind == "reauth" or (answer.kind == "fail" and answer.cause in ("data", "auth")):
        words = answer.say if answer.say not in SENTENCES.values() else None
        return replace(answer, kind="fail", cause="auth", say=words or REFUSED)
    return answer


def _granted(step: TokenStep, answer: Answer) -> Answer:
    try:
        texts = {name: to_text(value) for name, value in answer.output["save"].items()}
        ends = _moment(step.expires, answer.output.get("ends"))
        grant = _moment(step.grant_expires, answer.output.get("grant_ends"))
    except (EngineError, ValueError) as lost:
        words = SENTENCES["config"]
        return Answer("fail", cause="config", say=words, detail=str(lost)[:300])
    return Answer("ok", output=Granted(texts, ends, grant))


def _moment(stated: Expires | None, value: Any) -> datetime | None:
    if stated is None or value is None:
        return None
    if stated.unit == "at":
        moment = datetime.fromisoformat(to_text(value))
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    number = to_int(value)
    if stated.unit == "in_seconds":
        return clock.now() + timedelta(seconds=max(0, min(number, MAX_SECONDS)))
    seconds = number / 1000 if stated.unit == "at_ms" else number
    return datetime.fromtimestamp(min(max(seconds, 0), 253_402_300_799), UTC)


def read_identity(
    connector: Connector, identity: Identity, outcome: Response | Failure
) -> dict[str, str] | None:
    """Return whose account it is, {id, name}, as far as the answer tells; None otherwise."""
    parts = {"id": identity.account, "name": identity.label}
    shown = {name: {"optional": text} for name, text in parts.items() if text}
    result = {"object": shown}
    shape = Shape(
        identity.envelope, identity.errors, result, True, is_read=True, is_idempotent=True
    )
    answer = answers.read_shape(connector, shape, outcome, 1)
    if answer.kind != "ok" or not isinstance(answer.output, dict):
        return None
    try:
        return {name: to_text(value)[:200] for name, value in answer.output.items()} or None
    except EngineError:
        return None


def account_of(identity: Identity, token: Mapping[str, str]) -> dict[str, str] | None:
    """Return whose account it is when the token's own answer tells."""
    found: dict[str, str] = {}
    for name, text in (("id", identity.account), ("name", identity.label)):
        try:
            if text:
                written = templates.parse(text).write({"token": token}, str)
                found[name] = written[:200]
        except EngineError:
            continue
    return found or None

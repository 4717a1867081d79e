"""Calls: what becomes of it when an assistant uses a tool.

What reads is read at once, outside of transactions. What changes something is put down as an event
first: its run asks, acts and is repaired like any other. The assistant is told what is known after
a short wait, and asks again with `check_call`.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session, col, select

from connectors import asked, connections, dry_runs, masking, tokens
from connectors.assistants import tools, wiring
from connectors.assistants.tools import Tool
from connectors.connections import Open
from connectors.engine import requests, schemas
from connectors.engine.answers import Answer
from connectors.tables import Approval, Run, Step
from identity import audit
from identity.principals import Principal
from kernel import documents, queue
from kernel.database import reading, transaction
from kernel.errors import N_, Conflict, Forbidden, NotFound, TooLarge
from kernel.settings import settings
from webhooks import dedupe, events, quotas
from webhooks.envelopes import MAX_BYTES
from webhooks.events import NewEvent

PERMISSION = "assistants:call"
WAIT_SECONDS = 10.0
LOOK_SECONDS = 0.2
MAX_SUMMARY, MAX_FIELD = 3_500, 300  # characters; an approval shows 4,000
_RESTING = ("succeeded", "skipped", "parked", "cancelled")


@dataclass(frozen=True, slots=True)
class Told:
    """What the assistant is told; `is_error` when its call did not do what it was meant to."""

    value: dict[str, Any]
    is_error: bool = False


def call(who: Principal, name: str, arguments: Mapping[str, Any], language: str) -> Told:
    """Carry a call out, or put it down; raises Forbidden and NotFound."""
    if not who.may(PERMISSION):
        raise Forbidden
    with reading(who.organization_id) as session:
        tool = tools.find(session, who.organization_id, name)
        opened = connections.open_connection(tool.connection)
    wrong = problems_of(tool.schema(), arguments, language)
    if wrong:
        return Told({"state": "refused", "problems": wrong}, is_error=True)
    given = arguments["input"]
    if arguments.get("dry_run"):
        return _tried(tool, opened, given, language)
    if tool.is_read:
        return _read(tool, opened, given, language)
    return _put_down(who, tool, given, arguments.get("request_id"), language)


def problems_of(
    schema: Mapping[str, Any], arguments: Mapping[str, Any], language: str
) -> list[dict[str, str]]:
    """Return what keeps arguments from fitting a tool's schema, place by place."""
    wrong = schemas.problems(schema, dict(arguments))
    return [{"at": one.target, "problem": one.say[language]} for one in wrong[:20]]


def _tried(tool: Tool, opened: Open, given: Any, language: str) -> Told:
    """Show the request that a call would send."""
    try:
        request = requests.build(
            tool.connector, tool.action.key, given, dry_runs.without_token(opened), "dry-run"
        )
    except requests.CannotBuild as cannot:
        return _cannot(cannot, language)
    return Told({"state": "dry_run", "request": dry_runs.as_shown(request, opened.secrets)})


def _cannot(cannot: requests.CannotBuild, language: str) -> Told:
    problem = {"at": cannot.pointer, "problem": cannot.say[language]}
    return Told({"state": "refused", "problems": [problem]}, is_error=True)


# --- what reads ----------------------------------------------------------------------------------


def _read(tool: Tool, opened: Open, given: Any, language: str) -> Told:
    ready = tokens.ensure(opened)
    if isinstance(ready, tokens.NoToken):
        return _answered(ready.answer, ready.secrets, language)
    try:
        answer = asked.send(ready, tool.action.key, given)
        if answer.kind == "reauth" and tokens.has_token(ready):
            renewed = tokens.ensure(ready, stale=True)
            if isinstance(renewed, tokens.NoToken):
                return _answered(renewed.answer, renewed.secrets, language)
            ready = renewed
            answer = asked.send(ready, tool.action.key, given)
    except requests.CannotBuild as cannot:
        return _cannot(cannot, language)
    return _answered(answer, ready.secrets, language)


def _answered(answer: Answer, secrets: tuple[str, ...], language: str) -> Told:
    if answer.kind == "ok":
        return Told({"state": "done", "output": masking.keep(answer.output, secrets)})
    words = (answer.say or {}).get(language, "")
    detail = masking.keep(answer.detail, secrets) if answer.detail else None
    told = {"state": "failed", "cause": answer.cause or "auth", "say": words, "detail": detail}
    return Told(told, is_error=True)


# --- what changes something ----------------------------------------------------------------------


def _put_down(
    who: Principal, tool: Tool, given: Any, request_id: str | None, language: str
) -> Told:
    organization_id = who.organization_id
    body = {
        "title": tool.title("zh"),
        "summary": _summary(given),
        "input": given,
        "asked_by": who.name,
        "api_key_id": who.api_key_id,
    }
    key = f"{tool.action.key}:{request_id}" if request_id else None
    event = NewEvent(
        type=wiring.event_type(tool),
        body=documents.dump(body),
        dedupe_key=dedupe.short(f"assistant:{key}") if key else None,
    )
    if len(event.body) > MAX_BYTES:
        raise TooLarge(detail=N_("The data may have %(limit)s bytes (1 MiB)"), limit=MAX_BYTES)
    quotas.learn_for(organization_id)
    with quotas.admit(organization_id, None, 1), transaction(organization_id) as session:
        flow = wiring.ensure(session, tool, who.user_id)
        if flow.state != "active":
            raise Conflict(detail=N_("Somebody paused what this tool does"), code="tool_paused")
        origin = tool.connection.id
        taken = events.accept(session, organization_id, None, [event], origin=origin)[0]
        if taken.is_duplicate:
            _refuse_another(session, organization_id, taken.id, given)
        else:
            audit.record(session, who, "assistant.called", taken.id, detail={"tool": tool.name})
            queue.nudge(session, events.TASK)
    return wait_for(who, taken.id, language)


def _refuse_another(session: Session, organization_id: str, event_id: str, given: Any) -> None:
    """Refuse an id that was used for something else, which would be lost without a word."""
    known = documents.parse(events.get(session, organization_id, event_id).body)
    if documents.dump(known["input"]) != documents.dump(given):
        raise Conflict(
            detail=N_("This id was used before, for another event: %(event)s"),
            code="id_reused",
            event=event_id,
        )


def _summary(given: Any) -> str:
    """Write an input the way a person who decides reads it: a line for each of its fields."""
    if not isinstance(given, dict):
        return _cut(documents.dump(given).decode(), MAX_SUMMARY)
    lines = []
    for name, value in sorted(given.items(), key=lambda one: len(documents.dump(one[1]))):
        # on one line, so that no value looks like a field of its own
        text = documents.dump(value).decode()
        text = text[1:-1] if isinstance(value, str) else text
        lines.append(_cut(_on_one_line(f"{name}: {text}"), MAX_FIELD))
    return _cut_lines(lines)


def _on_one_line(text: str) -> str:
    """Spell out what breaks or turns a line."""
    kept = (one if one.isprintable() or one == "\u3000" else f"\\u{ord(one):04x}" for one in text)
    return "".join(kept)


def _cut(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    return f"{text[:most]} …（共 {len(text)} 个字符 / {len(text)} characters）"


def _cut_lines(lines: list[str]) -> str:
    """Join as many lines as a decision can show, and say what is left out."""
    shown: list[str] = []
    size = 0
    for line in lines:
        size += len(line) + 1
        if size > MAX_SUMMARY:
            break
        shown.append(line)
    left = len(lines) - len(shown)
    if left:
        shown.append(f"…还有 {left} 项，请打开运行页查看 / {left} more fields: see the run's page")
    return "\n".join(shown)


def wait_for(
    who: Principal, event_id: str, language: str, patience_seconds: float | None = None
) -> Told:
    """Return how a call stands as soon as it rests, or after a while."""
    patience_seconds = WAIT_SECONDS if patience_seconds is None else patience_seconds
    until = time.monotonic() + patience_seconds
    while True:
        with reading(who.organization_id) as session:
            told = _standing(session, who.organization_id, event_id, language)
        if told is not None and told.value["state"] != "under_way":
            return told
        if time.monotonic() >= until:
            return told or Told(
                {"state": "under_way", "call_id": event_id, "next": _AGAIN[language]}
            )
        time.sleep(LOOK_SECONDS)


def check(who: Principal, call_id: str, language: str) -> Told:
    """Return how an earlier call stands; raises Forbidden, and NotFound for what is no call."""
    if not who.may(PERMISSION):
        raise Forbidden
    with reading(who.organization_id) as session:
        event = events.get(session, who.organization_id, call_id)
    if not event.type.startswith(wiring.PREFIX):
        raise NotFound
    return wait_for(who, call_id, language, 0)


def _standing(session: Session, organization_id: str, event_id: str, language: str) -> Told | None:
    runs = select(Run).where(
        col(Run.organization_id) == organization_id, col(Run.event_id) == event_id
    )
    run = session.execute(runs.order_by(col(Run.id).desc())).scalars().first()
    if run is None:
        return None
    told: dict[str, Any] = {"call_id": event_id, "run_id": run.id}
    told["page"] = f"{settings().base_url}/runs/{run.id}"
    if run.state in _RESTING:
        return _rested(session, run, told, language)
    if run.cause == "approval":
        return _asking(session, run, told, language)
    if run.state == "waiting" and run.say:
        told["why"] = run.say.get(language)
    return Told({**told, "state": "under_way", "next": _AGAIN[language]})


def _rested(session: Session, run: Run, told: dict[str, Any], language: str) -> Told:
    steps = select(Step).where(
        col(Step.organization_id) == run.organization_id, col(Step.run_id) == run.id
    )
    found = {one.key: one for one in session.execute(steps).scalars()}
    act, ask = found.get(wiring.ACTION), found.get(wiring.APPROVAL)
    decided = ask.output if ask is not None and isinstance(ask.output, dict) else {}
    if decided.get("decision"):
        names = ("decision", "by", "comment", "how")
        told["decided"] = {name: decided.get(name) for name in names}
    if run.state == "succeeded" and act is not None:
        return Told({**told, "state": "done", "output": act.output})
    if run.state == "skipped":
        return Told({**told, "state": "not_approved"}, is_error=True)
    say = (run.say or {}).get(language)
    state = "cancelled" if run.state == "cancelled" else "stopped"
    reason = {"cause": run.cause, "say": say, "detail": run.detail}
    return Told({**told, "state": state, **reason}, is_error=True)


def _asking(session: Session, run: Run, told: dict[str, Any], language: str) -> Told:
    asked = select(Approval).where(
        col(Approval.organization_id) == run.organization_id, col(Approval.run_id) == run.id
    )
    approval = session.execute(asked.order_by(col(Approval.id).desc())).scalars().first()
    if approval is not None:
        told["approve_at"] = f"{settings().base_url}/approvals/{approval.id}"
        told["until"] = approval.deadline_at.isoformat()
    return Told({**told, "state": "waits_for_approval", "next": _ASKED[language]})


_AGAIN = {
    "zh": "还在处理，请稍后用 check_call 查看；不要重复提交。",
    "en": "Still under way: look again with check_call, and do not ask a second time.",
}
_ASKED = {
    "zh": "已提交，等人批准；批准后会自动执行一次。请稍后用 check_call 查看，不要重复提交。",
    "en": "Put before the people who decide; once approved it is done, once. "
    "Look again with check_call, and do not ask a second time.",
}

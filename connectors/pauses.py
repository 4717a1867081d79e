"""Pauses and ways: what a run does at a branch, a loop, a delay and an approval.

A delay and an approval let the run rest without a lease. What they were told, how long and by whom,
stands in the note of the step, so that it holds over restarts and upgrades.
"""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from connectors import durations, laps
from connectors.engine import expressions, mapping
from connectors.engine.findings import EngineError, say
from connectors.engine.functions import moment_of
from connectors.flow_documents import Planned
from kernel import clock, ids

if TYPE_CHECKING:
    from connectors.moving import Moving, Note

DEADLINE = timedelta(days=7)  # of an approval that names none
MAX_TITLE, MAX_TEXT = 200, 4_000
LOOK_AGAIN_SECONDS = 60  # behind its deadline an approval is decided by a sweep


def meet(moving: "Moving", step: Planned) -> None:
    """Do a step that is no action and no plain shaping of data."""
    known = moving.notes.get(moving.position)
    if known is not None and known.output is not None and step.kind in ("delay", "approval"):
        _look_again(moving, step, known)
        return
    note = moving.note()
    note.attempt_count += 1
    if step.kind == "branch":
        _choose(moving, step, note)
    elif step.kind == "each":
        items = laps.items_at(moving, step)
        note.state, note.output = "open", {"count": len(items)}
        laps.enter(moving, step, items)
    elif step.kind == "delay":
        note.output = {"until": _until(moving, step).isoformat()}
        moving.rests_anew = True
        _look_again(moving, step, note)
    else:
        _ask(moving, step, note)


def leave(moving: "Moving", step: Planned, note: "Note") -> None:
    """Go where a step that is done leads."""
    output = note.output if isinstance(note.output, dict) else {}
    if step.kind == "branch":
        chosen = output.get("way")
        first = next((way.position for way in step.ways if way.key == chosen), step.follows)
        moving.go_to(first)
    elif step.kind == "approval" and output.get("decision") != "approved":
        if step.ways:
            moving.go_to(step.ways[0].position)
        else:
            moving.end_here("refused", REFUSED)
    else:
        moving.go_on()


def _finish(moving: "Moving", step: Planned, note: "Note", state: str = "succeeded") -> None:
    note.close(state, note.output)
    note.is_changed = True
    moving.attempt_count = moving.crash_count = 0
    moving.activation["steps"][step.key] = {"input": None, "output": note.output}
    leave(moving, step, note)


def pretend(moving: "Moving", decision: str = "approved") -> None:
    """Go past a delay, and past an approval as if it was decided: for trying a flow out."""
    if moving.state != "waiting" or moving.cause not in ("delay", "approval"):
        return
    moving.state, moving.cause, moving.say = "leased", None, None
    moving.asks.clear()
    note = moving.note()
    given = {"decision": decision, "by": "", "comment": ""} if note.kind == "approval" else {}
    note.output = {**note.output, **given, "ended_at": clock.now().isoformat()}


# --- branches ------------------------------------------------------------------------------------


def _choose(moving: "Moving", step: Planned, note: "Note") -> None:
    chosen = None
    for way in step.ways:
        if expressions.condition(way.when, moving.activation):
            chosen = way.key
            break
    note.output = {"way": chosen}
    _finish(moving, step, note)


# --- delays --------------------------------------------------------------------------------------


def _until(moving: "Moving", step: Planned) -> datetime:
    lasting = durations.read(step.settings.get("for"))
    if lasting is not None:
        return clock.now() + lasting
    until = moment_of(step.plan.apply(moving.activation))
    if until - clock.now() > durations.LONGEST:
        raise EngineError(
            say("要等的时间超过一年", "The time to wait for is more than a year ahead")
        )
    return until


def _look_again(moving: "Moving", step: Planned, note: "Note") -> None:
    """Go on if the time has come or a person said so; rest on if not."""
    if step.kind == "approval":
        if "decision" in note.output:
            approved = note.output["decision"] == "approved" or bool(step.ways)
            _finish(moving, step, note, "succeeded" if approved else "skipped")
            return
        until = datetime.fromisoformat(note.output["deadline"])
        left = (until - clock.now()).total_seconds()
        moving.wait("approval", ASKED, max(left, 0) + LOOK_AGAIN_SECONDS)
        return
    until = datetime.fromisoformat(note.output["until"])
    left = (until - clock.now()).total_seconds()
    if left <= 0 or note.output.get("ended_at"):
        _finish(moving, step, note)
        return
    note.state = "waiting"
    moving.wait("delay", WAITS, left)


# --- approvals -----------------------------------------------------------------------------------


def _ask(moving: "Moving", step: Planned, note: "Note") -> None:
    """Put a question to people; its row goes down along with the run's rest."""
    written = step.settings
    told = mapping.apply(
        {"title": written.get("subject") or "", "text": written.get("text") or ""},
        moving.activation,
    )
    now = clock.now()
    deadline = now + (durations.read(written.get("deadline")) or DEADLINE)
    remind = durations.read(written.get("remind"))
    approval_id = ids.new_id("apv")
    note.state = "waiting"
    note.output = {"approval": approval_id, "deadline": deadline.isoformat()}
    who = written.get("who") or {}
    moving.rests_anew = True
    moving.asks.append(
        {
            "organization_id": moving.organization_id,
            "id": approval_id,
            "created_at": now,
            "flow_id": moving.flow_id,
            "run_id": moving.id,
            "position": moving.position,
            "key": step.key,
            "title": _text(told["title"], MAX_TITLE),
            "text": _text(told["text"], MAX_TEXT),
            "roles": list(who.get("roles") or ()),
            "members": list(who.get("members") or ()),
            "state": "open",
            "at_deadline": written.get("at_deadline") or "refuse",
            "by_link": written.get("by_link") or "sign_in",
            "deadline_at": deadline,
            "next_at": min(deadline, now + remind) if remind else deadline,
        }
    )
    moving.wait("approval", ASKED, (deadline - now).total_seconds() + LOOK_AGAIN_SECONDS)


def _text(value: Any, longest: int) -> str:
    text = value if isinstance(value, str) else str(value)
    text = text.replace("\0", "�").strip()
    return text if len(text) <= longest else text[: longest - 1] + "…"


WAITS = {
    "zh": "流程按设定在这里等一段时间，到时自动继续",
    "en": "The flow waits here as intended and goes on by itself",
}
ASKED = {
    "zh": "在等人审批，有人决定后自动继续",
    "en": "It waits for somebody to decide, and goes on by itself then",
}
NOT_MET = {
    "zh": "这件事不符合条件，流程按设定没有继续",
    "en": "This event does not meet the condition, so the flow stopped here as intended",
}
REFUSED = {
    "zh": "审批没有通过，流程按设定没有继续",
    "en": "It was refused, so the flow stopped here as intended",
}

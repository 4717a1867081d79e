"""Meeting: what a run does at a step that calls a flow, awaits an event or uses the store.

All in memory. What the step needs of the database is a deed, which is done in the commit that
records the run: it happens together with what is written about it, or not at all. A run never goes
past such a step before that is written down, so that whoever wakes it may take its lease away.
"""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from connectors import durations, masking
from connectors.engine import expressions, mapping
from connectors.engine.findings import EngineError, say
from connectors.engine.functions import Missing, to_text
from connectors.flow_documents import Planned
from connectors.resting import matching
from kernel import clock, documents, ids

if TYPE_CHECKING:
    from connectors.moving import Moving, Note

KINDS = ("call", "wait", "store")
MAX_DEPTH = 5  # flows that call each other
MAX_HANDED_BYTES = masking.MAX_KEPT_BYTES
LOOK_SECONDS, LONGEST_LOOK_SECONDS = 60.0, 3_600.0  # a called run is looked at so often, at least


def meet(moving: "Moving", step: Planned) -> None:
    """Do what can be done at such a step until something has to be written down."""
    note = moving.note()
    if note.state == "succeeded":
        _pass(moving, step, note)
    elif note.state == "skipped" and not note.is_new:
        _drop_deeds(moving, note)
        moving.end_here("not_come", NOT_COME)
    else:
        {"store": _store, "wait": _wait, "call": _call}[step.kind](moving, step, note)


def _pass(moving: "Moving", step: Planned, note: "Note") -> None:
    _drop_deeds(moving, note)
    moving.attempt_count = moving.crash_count = 0
    given = {"input": note.input, "output": note.output}
    moving.activation["steps"][step.key] = given
    moving.go_on()


def _drop_deeds(moving: "Moving", note: "Note") -> None:
    moving.deeds = [deed for deed in moving.deeds if deed.note is not note]


def _found(moving: "Moving", note: "Note", kind: str) -> Any:
    """Take what came of a deed of this step; None when it was not done by this worker."""
    for deed in moving.deeds:
        if deed.note is note and deed.kind == kind and deed.found is not None:
            moving.deeds.remove(deed)
            return deed.found
    return None


def _look_first(moving: "Moving") -> None:
    """Give the run back, so that it is taken up along with what it waits for."""
    moving.state, moving.wait_seconds = "due", 0


def _do(moving: "Moving", note: "Note", kind: str, **given: Any) -> None:
    moving.deeds.append(moving.deed(kind, note, given))


# --- the store -----------------------------------------------------------------------------------


def _store(moving: "Moving", step: Planned, note: "Note") -> None:
    found = _found(moving, note, "store")
    if found is not None:  # it would be done if it had not been refused
        refusal = found["refused"]
        moving.park(refusal["cause"], refusal["say"])
        return
    written, values = step.settings, moving.activation
    operation = str(written.get("operation"))
    lasting = durations.read(written.get("expires"))
    given: dict[str, Any] = {
        "operation": operation,
        "collection": _collection(moving, str(written.get("collection"))),
        "entry": _name(written.get("entry"), values) if operation != "list" else "",
        "expires": None if lasting is None else int(lasting.total_seconds()),
    }
    if operation == "put":
        given["value"] = mapping.apply(written.get("value"), values)
    elif operation == "add":
        given["amount"] = mapping.apply(written.get("amount", 1), values)
    elif operation == "list":
        given["prefix"] = _name(written.get("prefix") or "", values, may_be_empty=True)
        given["limit"] = written.get("limit", 100)
    note.attempt_count += 1
    note.state, note.problem = "waiting", None
    note.input = masking.keep({k: v for k, v in given.items() if v is not None}, ())
    _do(moving, note, "store", **given)


def _collection(moving: "Moving", name: str) -> str:
    """Return where a run keeps things; what is tried out has collections of its own."""
    return f"test-{name}" if moving.kin.environment == "test" else name


def _name(written: Any, values: Any, *, may_be_empty: bool = False) -> str:
    text = to_text(mapping.apply(written, values)).replace("\0", "\ufffd").strip()
    if not text and not may_be_empty:
        raise EngineError(say("键是空的，不知道存在哪里", "The key is empty"))
    if len(text) > 200:
        raise EngineError(say("键超过 200 个字", "The key is longer than 200 characters"))
    return text


# --- awaited events ------------------------------------------------------------------------------


def _wait(moving: "Moving", step: Planned, note: "Note") -> None:
    known = note.output if isinstance(note.output, dict) else None
    if known is None or "until" not in known:
        _register(moving, step, note)
        return
    arrived = moving.seen.pop(moving.position, None)
    if arrived is None:
        _look_first(moving)
        return
    came = _first(moving, step, arrived)
    until = datetime.fromisoformat(known["until"])
    left = (until - clock.now()).total_seconds()
    if came is not None:
        told = {name: came[name] for name in ("id", "type", "time", "subject", "data")}
        _close(moving, note, "succeeded", {"came": True, "until": known["until"], **told})
    elif left > 0 and not known.get("ended_at"):
        note.state = "waiting"
        moving.wait("wait", WAITS, left)
    else:
        _miss(moving, step, note, known)


def _register(moving: "Moving", step: Planned, note: "Note") -> None:
    written = step.settings
    match = written.get("match") or {}
    value = mapping.apply(match.get("value"), moving.activation)
    lasting = durations.read(written.get("for"))
    if lasting is None:
        raise EngineError(say("没有写最多等多久", "It is not said how long it waits at most"))
    until = clock.now() + lasting
    path, environment = str(match.get("path")), moving.kin.environment
    found = matching.hash_of(str(written["event_type"]), path, value, environment)
    if found is None:
        raise EngineError(
            say("用来认出事件的值是空的", "The value that tells the awaited event is empty")
        )
    note.attempt_count += 1
    note.state, note.problem = "waiting", None
    note.input = masking.keep({"event_type": written["event_type"], "value": value}, ())
    note.output = {"wait": ids.new_id("ewt"), "match": found, "until": until.isoformat()}
    note.output["since"] = clock.now().isoformat()
    moving.rests_anew = True
    _look_first(moving)  # what came meanwhile is seen by whoever takes it up from the database
    _do(
        moving,
        note,
        "await",
        wait_id=note.output["wait"],
        event_type=written["event_type"],
        match_hash=found,
        until=until,
    )


def _first(moving: "Moving", step: Planned, arrived: list[dict[str, Any]]) -> Any:
    """Return the first of the events that fits, as expressions see it."""
    when = step.settings.get("when")
    for event in arrived:
        seen = {**moving.activation, "awaited": event}
        try:
            if not when or expressions.condition(when, seen):
                return event
        except Missing:
            continue  # it lacks what the condition looks at, so it is another one
    return None


def _miss(moving: "Moving", step: Planned, note: "Note", known: dict[str, Any]) -> None:
    how = step.settings.get("at_deadline") or "fail"
    told = {"came": False, "until": known["until"]}
    if how == "go_on":
        _close(moving, note, "succeeded", told)
    elif how == "end":
        _close(moving, note, "skipped", told)
    else:
        _do(moving, note, "unawait", wait_id=known["wait"])
        moving.park("data", NOT_COME)


def _close(moving: "Moving", note: "Note", state: str, output: Any) -> None:
    """Write the outcome down; the run goes on once that is done."""
    wait_id = note.output["wait"]
    note.close(state, masking.keep(output, ()))
    _do(moving, note, "unawait", wait_id=wait_id)


# --- called flows --------------------------------------------------------------------------------


def _call(moving: "Moving", step: Planned, note: "Note") -> None:
    if not isinstance(note.output, dict):
        _begin_call(moving, step, note)
        return
    if "refused" in note.output:
        refusal, note.output = note.output["refused"], None
        moving.park(refusal["cause"], refusal["say"])
        return
    child = moving.seen.pop(moving.position, None)
    if child is None:
        _look_first(moving)
        return
    _take_child(moving, step, note, child)


def _begin_call(moving: "Moving", step: Planned, note: "Note") -> None:
    if moving.kin.depth + 1 >= MAX_DEPTH:
        raise EngineError(
            say(
                f"流程互相调用超过 {MAX_DEPTH} 层，已停下",
                f"Flows call each other more than {MAX_DEPTH} deep",
            )
        )
    value = step.plan.apply(moving.activation)
    if len(documents.dump(value)) > MAX_HANDED_BYTES:
        raise EngineError(
            say("交给被调用流程的内容超过 64 KB", "What is handed over is larger than 64 kB")
        )
    note.attempt_count += 1
    note.state, note.problem = "waiting", None
    note.input = value
    note.output = {"run": ids.new_id("run")}
    moving.rests_anew = True
    moving.wait("call", CALLS, LOOK_SECONDS)
    _do(
        moving,
        note,
        "call",
        run_id=note.output["run"],
        flow=str(step.settings.get("flow")),
        version=step.settings.get("version"),
        value=value,
    )


def _take_child(moving: "Moving", step: Planned, note: "Note", child: dict[str, Any]) -> None:
    """Go by how the called run is: over, stopped, or still under way."""
    state = child["state"]
    if state in ("succeeded", "skipped"):
        problem = (child["result"] or {}).get("problem")
        if problem:
            moving.park("data", problem["say"], problem["detail"])
            return
        note.close("succeeded", masking.keep((child["result"] or {}).get("output"), ()))
        _do(moving, note, "noted")
    elif state == "parked":
        moving.park(child["cause"] or "config", STOPPED, child["id"])
    elif state in ("cancelled", "gone"):
        if (note.problem or {}).get("say") == CANCELLED:  # a person has said to try again
            _begin_call(moving, step, note)
        else:
            moving.park("config", CANCELLED, child["id"])
    else:
        note.state = "waiting"
        seconds = (clock.now() - (note.started_at or clock.now())) / timedelta(seconds=2)
        moving.wait("call", CALLS, min(max(seconds, LOOK_SECONDS), LONGEST_LOOK_SECONDS))


def given_back(moving: "Moving") -> dict[str, Any] | None:
    """Return what a called run gives back at its end: {output}, or the {problem} with it."""
    if moving.kin.parent_id is None or moving.recipe.gives is None:
        return None
    try:
        output = moving.recipe.gives.apply(moving.activation)
    except EngineError as error:
        return {"problem": {"say": dict(error.say), "detail": moving.id}}
    return {"output": masking.keep(output, ())}


def hold_back(moving: "Moving") -> None:
    """Let a run stop that may not rest because too many do; nothing of its step was done."""
    moving.deeds.clear()
    moving.asks.clear()
    moving.rests_anew = False
    note = moving.note()
    note.output = None
    moving.park("limit", TOO_MANY)


WAITS = {
    "zh": "流程按设定在这里等一个事件，等到或到期后自动继续",
    "en": "The flow waits for an event here and goes on by itself once it comes or time is over",
}
CALLS = {
    "zh": "正在等被调用的流程走完，之后自动继续",
    "en": "It waits for the flow it called, and goes on by itself",
}
NOT_COME = {
    "zh": "等的事件没有在期限内到来",
    "en": "The event it waited for did not come in time",
}
STOPPED = {
    "zh": "被调用的流程停下了；处理好那一次运行，这里会自动继续",
    "en": "The flow it called has stopped; this run goes on by itself once that one is repaired",
}
CANCELLED = {
    "zh": "被调用的那次运行已取消，没有结果；重试会重新调用",
    "en": "The run it called was cancelled and gave nothing; trying again calls it anew",
}
TOO_MANY = {
    "zh": "本组织正在等待的运行太多，这一次没有开始等待，什么也没有做；等一些结束后重试",
    "en": "Too many runs of this organization wait already, so this one did not begin to; "
    "nothing was done. Try it again when some have ended",
}

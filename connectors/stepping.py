"""One run in memory: pure steps are done at once, an action becomes a call for its lane."""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from connectors import error_paths, laps, masking, pauses
from connectors.engine import expressions, mapping
from connectors.engine.answers import Answer
from connectors.engine.findings import EngineError
from connectors.engine.parts import MORE
from connectors.flow_documents import Planned
from connectors.moving import Moving, Note, Say
from connectors.resting import meeting
from kernel import log
from kernel.http import Failure, Response

__all__ = ["Call", "Moving", "Note", "Say", "restore", "start_activation", "take_answer", "work"]

PARTS = "$parts"  # stands in a step's output while it is done in parts
SLICE_SECONDS = 0.25  # pure steps of a loop in one go, before what was done is written down
_logger = log.get_logger(__name__)


@dataclass(slots=True)
class Call:
    """An action whose input is known; the request is built from it once the connection is open."""

    moving: Moving
    step: Planned
    note: Note
    input: Any
    effect_key: str
    progress: dict[str, Any] | None = None  # of an action in parts: what was done so far
    is_begun: bool = False  # … and is under way in this round


def effect_key(moving: Moving, step_key: str) -> str:
    """Return the id of a step's effect: the same however often the step is tried."""
    if moving.loops:
        step_key += laps.mark(moving)
    parts = (
        moving.event_id,
        moving.flow_id,
        step_key,
        moving.replay_nonce,
        moving.effect_nonce,
    )
    return "eff_" + hashlib.sha256("\n".join(parts).encode()).hexdigest()[:40]


def start_activation(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return what expressions see before the first step."""
    return {"event": event, "steps": {}}


def restore(moving: Moving) -> None:
    """Bring back what the steps before the present one gave, from their notes."""
    if not moving.recipe.is_straight:
        _walk_again(moving)
        return
    target = moving.position
    for position in range(target):
        step, note = moving.recipe.steps[position], moving.notes.get(position)
        if note is not None and not masking.is_cut(note.output):
            given = {"input": note.input, "output": note.output}
        elif step.kind == "map":
            # too large to be kept; the same event and mapping give the same value again
            given = {"input": None, "output": step.plan.apply(moving.activation)}
        else:
            given = {"input": None, "output": note.output if note else None}
        moving.activation["steps"][step.key] = given


def _walk_again(moving: Moving) -> None:
    """Go the way to the present step once more, along the notes of what was done."""
    target, moving.position = moving.position, 0
    moving.is_restoring = True
    try:
        found = _walk_to(moving, target)
    except EngineError:
        moving.loops.clear()  # it stops where it stood, and no loop goes on without the item
        raise
    finally:
        moving.position, moving.is_restoring = target, False
    if not found:
        moving.loops.clear()
        moving.stop("quarantined", _LOST_WAY)
    elif moving.loops:
        moving.until = time.monotonic() + laps.TURN_SECONDS


def _walk_to(moving: Moving, target: int) -> bool:
    """Take one step after the other; tells whether the way led there."""
    while moving.position != target:
        note = None if moving.is_over else moving.notes.get(moving.position)
        if note is None or moving.state != "leased":
            return False
        _pass(moving, moving.step, note)
    return True


def _pass(moving: Moving, step: Planned, note: Note) -> None:
    """Take a step as its note says it went."""
    if note.state == "failed":
        problem = note.problem or {}
        if error_paths.WENT in problem:
            error_paths.take(moving, note)
        elif not laps.goes_on_without(moving, problem.get("cause", ""), problem.get("say", {})):
            moving.state = "parked"  # it never got past it
    elif step.kind == "each" and (note.state != "succeeded" or masking.is_cut(note.output)):
        laps.enter(moving, step, laps.items_at(moving, step))
    else:
        output = note.output
        if note.state == "skipped" and step.kind != "approval":
            moving.end_here("filtered", pauses.NOT_MET)
            return
        if step.kind == "map" and masking.is_cut(output):
            # too large to be kept; the same event and mapping give the same value again
            output = step.plan.apply(moving.activation)
        moving.activation["steps"][step.key] = {"input": note.input, "output": output}
        if step.kind == "each":
            moving.lap_count += output["count"]
        pauses.leave(moving, step, note)


def work(moving: Moving) -> Call | None:
    """Do the pure steps; return the next call, or None when the run has come to rest."""
    try:
        return _work(moving)
    except mapping.MappingError as error:
        first = error.problems[0]
        moving.park("data", first.say, "; ".join(one.plain("en") for one in error.problems[:8]))
    except EngineError as error:
        moving.park("data", error.say)
    except Exception as error:  # one run's trouble must not stop the others
        _logger.exception("run_broke", run_id=moving.id)
        moving.park("quarantined", _BROKE, f"{type(error).__name__}: {error}"[:300])
    return None


def _work(moving: Moving) -> Call | None:
    until = time.perf_counter() + SLICE_SECONDS
    while moving.state == "leased":
        if moving.pending:
            break  # it goes on when that is written down
        if moving.is_over:
            moving.result = meeting.given_back(moving)
            moving.finish("succeeded")
            break
        step = moving.step
        if moving.loops and _is_left_out(moving):
            moving.end_here("filtered", pauses.NOT_MET)
        elif step.kind == "action":
            done = moving.notes.get(moving.position)
            if done is not None and done.state == "failed" and _is_sent_down(done):
                told = done.problem or {}
                moving.park(told["cause"], told["say"], told["detail"])
                continue
            if done is None or done.state != "succeeded":
                return _call(moving, step)
            succeed(moving, done, done.output)  # a person took it as done
        elif step.kind in ("filter", "map"):
            _shape(moving, step)
        elif step.kind in meeting.KINDS:
            meeting.meet(moving, step)
        else:
            pauses.meet(moving, step)
        if moving.loops and time.perf_counter() > until:
            break  # what was done so far is written down before it goes on
    return None


def _is_sent_down(note: Note) -> bool:
    """Tell whether a person has sent a failed step down its error path."""
    return not note.is_new and bool((note.problem or {}).get(error_paths.DECIDED))


def _is_left_out(moving: Moving) -> bool:
    """Tell whether a person gave the present item up at this step."""
    note = moving.notes.get(moving.position)
    return note is not None and note.state == "skipped" and not note.is_new


def _shape(moving: Moving, step: Planned) -> None:
    began = time.perf_counter()
    note = moving.note()
    note.attempt_count += 1
    if step.kind == "filter":
        passes = expressions.condition(step.body, moving.activation)
        output: Any = {"passed": passes}
    else:
        passes, output = True, step.plan.apply(moving.activation)
    if passes:
        succeed(moving, note, output)
    else:
        note.close("skipped", output)
        moving.activation["steps"][note.key] = {"input": None, "output": output}
        moving.end_here("filtered", pauses.NOT_MET)
    note.elapsed_ms = int((time.perf_counter() - began) * 1000)


def _call(moving: Moving, step: Planned) -> Call | None:
    before = moving.notes.get(moving.position)
    if before is not None and before.state == "sending":
        moving.park("unknown", _MAY_HAVE_HAPPENED)
        return None
    note = moving.note()
    if note.edited_input is not None:
        value = note.edited_input
    else:
        value = step.plan.apply(moving.activation)
    note.input = value
    if not (note.keeps_key and note.effect_key and not moving.effect_nonce):
        note.effect_key = effect_key(moving, step.key)
    return Call(moving, step, note, value, note.effect_key, _progress(note))


def _progress(note: Note) -> dict[str, Any] | None:
    """Return how far a step in parts came before, as it was kept in the place of its output."""
    kept = note.output
    return kept[PARTS] if isinstance(kept, dict) and kept.keys() == {PARTS} else None


def succeed(moving: Moving, note: Note, output: Any) -> None:
    """Write down that the present step is done and stand at the next."""
    note.close("succeeded", output)
    moving.activation["steps"][note.key] = {"input": note.input, "output": output}
    moving.attempt_count = 0
    moving.crash_count = 0
    moving.go_on()


def hold(call: Call, cause: str, say: Say, seconds: float, secrets: tuple[str, ...] = ()) -> None:
    """Let a call wait that was not made; what an action in parts has so far is kept."""
    call.moving.hold(cause, say, seconds)
    if call.progress is not None:
        call.note.output = masking.keep({PARTS: call.progress}, secrets)


def take_answer(
    call: Call, answer: Answer, outcome: Response | Failure, secrets: tuple[str, ...]
) -> None:
    """Move a run on by what its call's answer means; a `reauth` that is left over is a refusal."""
    moving, note = call.moving, call.note
    moving.attempt_count += 1
    note.attempt_count += 1
    note.status = note.elapsed_ms = None
    if isinstance(outcome, Response):
        note.status, note.elapsed_ms = outcome.status, outcome.elapsed_ms
    note.input = masking.keep(call.input, secrets)
    detail = masking.keep(answer.detail, secrets) if answer.detail else None
    if call.progress is not None and answer.kind != "ok":
        note.output = masking.keep({PARTS: call.progress}, secrets)
    if answer.kind == MORE:
        # what came is written down; the rest is asked for when the others had their turn
        moving.state, moving.wait_seconds, moving.attempt_count = "due", 0, 0
        note.state = "waiting"
    elif answer.kind == "ok":
        succeed(moving, note, masking.keep(answer.output, secrets))
        if moving.is_over and moving.recipe.gives is None:
            moving.finish("succeeded")
    elif answer.kind == "retry" and answer.after_seconds is not None:
        moving.state, moving.cause = "waiting", answer.cause
        moving.say, moving.detail = answer.say, detail
        moving.wait_seconds = answer.after_seconds
        note.state = "waiting"
        note.problem = {"cause": answer.cause, "say": dict(answer.say or {}), "detail": detail}
    else:
        cause = answer.cause or ("auth" if answer.kind == "reauth" else "unknown")
        moving.park(cause, answer.say or _NO_WORDS, detail)


_LOST_WAY = {
    "zh": "这次运行走到哪里读不出来，已停下以免重复",
    "en": "It cannot be read where this run was; it was stopped so that nothing is done twice",
}
_MAY_HAVE_HAPPENED = {
    "zh": "发出请求后程序中断了，不知道对方有没有收到。为了不重复新建，已停下等人确认",
    "en": "The hub stopped right after sending, so it is not known whether the app did it. "
    "To avoid doing it twice, the run waits for a person",
}
_BROKE = {
    "zh": "这一步在我们这边出了意外，已停下以免影响其他流程",
    "en": "This step broke on our side; it was stopped so that it cannot disturb others",
}
_NO_WORDS = {"zh": "这一步没有成功", "en": "This step did not succeed"}

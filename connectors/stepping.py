"""One run in memory: pure steps are done at once, an action becomes a call for its lane."""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from connectors import masking
from connectors.engine import expressions, mapping
from connectors.engine.answers import Answer
from connectors.flow_documents import Planned, Recipe
from kernel import clock, ids, log
from kernel.http import Failure, Response

_logger = log.get_logger(__name__)
Say = Mapping[str, str]


@dataclass(slots=True)
class Note:
    """A step's row while it is being worked on; `is_new` tells an insert from an update."""

    id: str
    position: int
    key: str
    kind: str
    state: str = "waiting"
    attempt_count: int = 0
    input: Any = None
    output: Any = None
    problem: dict[str, Any] | None = None
    edited_input: Any = None
    effect_key: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    elapsed_ms: int | None = None
    status: int | None = None
    is_new: bool = True
    is_changed: bool = True


@dataclass(slots=True)
class Moving:
    """A claimed run: where it stands, what it knows, and what shall be recorded of it."""

    organization_id: str
    id: str
    flow_id: str
    event_id: str
    replay_nonce: str
    effect_nonce: str
    lease_epoch: int
    recipe: Recipe
    activation: dict[str, Any]
    position: int = 0
    attempt_count: int = 0
    notes: dict[int, Note] = field(default_factory=dict)
    # leased (goes on) | due (given back) | waiting | succeeded | skipped | parked
    state: str = "leased"
    cause: str | None = None
    say: Say | None = None
    detail: str | None = None
    wait_seconds: float = 0
    crash_count: int = 0
    order_key: str | None = None  # the lane of its flow that it goes in, when that has an order

    @property
    def lane(self) -> str:
        """Return where the next call goes."""
        return self.recipe.lane_at(self.position, self.flow_id)

    @property
    def step(self) -> Planned:
        """Return the step the run stands at."""
        return self.recipe.steps[self.position]

    def note(self) -> Note:
        """Return the present step's note, made when the step is met for the first time."""
        step = self.step
        note = self.notes.get(self.position)
        if note is None:
            note = Note(ids.new_id("stp"), self.position, step.key, step.kind)
            self.notes[self.position] = note
        note.is_changed = True
        if note.started_at is None:
            note.started_at = clock.now()
        return note

    def finish(self, state: str, cause: str | None = None, say: Say | None = None) -> None:
        """Bring the run to an end."""
        self.state, self.cause, self.say, self.detail = state, cause, say, None

    def give_back(self) -> None:
        """Return the run unchanged: its call was not made."""
        self.state, self.wait_seconds = "due", 0
        note = self.note()
        if note.state == "sending":
            note.state = "waiting"

    def park(self, cause: str, say: Say, detail: str | None = None) -> None:
        """Stop at the present step until a person has acted."""
        self.state, self.cause, self.say, self.detail = "parked", cause, say, detail
        note = self.note()
        note.state, note.finished_at = "failed", clock.now()
        note.problem = {"cause": cause, "say": dict(say), "detail": detail}


@dataclass(slots=True)
class Call:
    """An action whose input is known; the request is built from it once the connection is open."""

    moving: Moving
    step: Planned
    note: Note
    input: Any
    effect_key: str


def effect_key(moving: Moving, step_key: str) -> str:
    """Return the id of a step's effect: the same however often the step is tried."""
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


def work(moving: Moving) -> Call | None:
    """Do the pure steps; return the next call, or None when the run has come to rest."""
    try:
        return _work(moving)
    except (expressions.EvaluationError, expressions.BadExpression) as error:
        moving.park("data", error.say)
    except mapping.MappingError as error:
        first = error.problems[0]
        moving.park("data", first.say, "; ".join(one.plain("en") for one in error.problems[:8]))
    except Exception as error:  # one run's trouble must not stop the others
        _logger.exception("run_broke", run_id=moving.id)
        moving.park("quarantined", _BROKE, f"{type(error).__name__}: {error}"[:300])
    return None


def _work(moving: Moving) -> Call | None:
    while moving.position < len(moving.recipe.steps):
        step = moving.step
        if step.kind == "action":
            return _call(moving, step)
        began = time.perf_counter()
        note = moving.note()
        note.attempt_count += 1
        if step.kind == "filter":
            passes = expressions.condition(step.body, moving.activation)
            output: Any = {"passed": passes}
        else:
            passes, output = True, step.plan.apply(moving.activation)
        succeed(moving, note, output)
        note.elapsed_ms = int((time.perf_counter() - began) * 1000)
        if not passes:
            note.state = "skipped"
            moving.finish("skipped", "filtered", _NOT_MET)
            return None
    moving.finish("succeeded")
    return None


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
    note.effect_key = effect_key(moving, step.key)
    return Call(moving, step, note, value, note.effect_key)


def succeed(moving: Moving, note: Note, output: Any) -> None:
    """Write down that the present step is done and stand at the next."""
    note.state, note.output, note.problem = "succeeded", output, None
    note.finished_at = clock.now()
    moving.activation["steps"][note.key] = {"input": note.input, "output": output}
    moving.position += 1
    moving.attempt_count = 0
    moving.crash_count = 0


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
    if answer.kind == "ok":
        succeed(moving, note, masking.keep(answer.output, secrets))
        if moving.position >= len(moving.recipe.steps):
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


_NOT_MET = {
    "zh": "这件事不符合条件，流程按设定没有继续",
    "en": "This event does not meet the condition, so the flow stopped here as intended",
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

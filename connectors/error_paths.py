"""Error paths: what a run does when a step has finally failed, if its flow says something.

Whoever failed keeps the failure in its note, marked with `went`, so that a run that is taken up
again goes the same way. What nobody knows the outcome of stops for a person all the same, unless
the flow says otherwise or that person has sent it down the error path.
"""

from typing import TYPE_CHECKING, Any

from connectors import laps
from connectors.flow_documents import ENDS_BADLY, THE_FLOW
from connectors.flow_paths import items_of, position_at

if TYPE_CHECKING:
    from connectors.moving import Moving, Note

CAUSE = "error_path"  # of a run that went there
WENT, ERROR, DECIDED = "went", "error", "decided"  # marks in the problem of a note
_NEVER = ("quarantined",)  # our own trouble is no part of the flow


def take(moving: "Moving", note: "Note") -> bool:
    """Go the error path for a failure that stands in the present step's note; tells whether."""
    problem = note.problem or {}
    owner = _owner(moving, problem)
    if owner is None:
        return False
    depth = 0 if owner == THE_FLOW else _depth(moving, owner)
    if moving.loops and not _is_nearer(moving, depth, problem):
        return False
    told = problem.get(ERROR) or _told(note, moving.recipe.path_of(moving.position))
    problem.update({WENT: owner, ERROR: told})
    while len(moving.loops) > depth:
        loop = moving.loops.pop()
        laps.give_up(moving, loop, problem["cause"], problem["say"])
        given_up = moving.notes.get(loop.position)
        if given_up is not None and given_up.problem and not moving.is_restoring:
            given_up.problem.update({WENT: owner, ERROR: told})
    moving.state, moving.cause, moving.say, moving.detail = "leased", None, None, None
    moving.attempt_count = moving.crash_count = 0
    moving.went_wrong = True
    moving.activation["error"] = told
    steps = moving.activation["steps"]
    if owner == THE_FLOW:
        moving.position = moving.recipe.on_error or 0
        return True
    failed = moving.recipe.steps[owner]
    steps[failed.key] = {"input": None, "output": None}
    moving.position = position_at(owner, items_of(moving.position)[:depth])
    moving.go_to(ENDS_BADLY if failed.on_error is None else failed.on_error)
    return True


def _owner(moving: "Moving", problem: dict[str, Any]) -> int | None:
    """Return the nearest step that catches this, THE_FLOW, or None."""
    if WENT in problem:
        return int(problem[WENT])
    if problem["cause"] in _NEVER:
        return None
    for owner in moving.step.caught_by:
        if problem["cause"] != "unknown" or problem.get(DECIDED):
            return owner
        settings = {} if owner == THE_FLOW else moving.recipe.steps[owner].settings
        path = moving.recipe.caught if owner == THE_FLOW else settings.get("on_error") or {}
        if path.get("on_unknown") == CAUSE:
            return owner
    return None


def _depth(moving: "Moving", owner: int) -> int:
    """Return how many loops are around a step."""
    count, around = 0, moving.recipe.steps[owner].inside
    while around is not None:
        count, around = count + 1, moving.recipe.steps[around].inside
    return count


def _is_nearer(moving: "Moving", depth: int, problem: dict[str, Any]) -> bool:
    """Tell whether no loop further inside goes on without the item."""
    going_on = laps.loop_without(moving, problem["cause"])
    return going_on is None or depth > going_on


def _told(note: "Note", path: str) -> dict[str, Any]:
    """Return the failure as expressions read it."""
    problem = note.problem or {}
    said = problem.get("say") or {}
    return {
        "class": problem.get("cause"),
        "code": str(note.status or problem.get("cause")),
        "message": said.get("zh", ""),
        "message_en": said.get("en", ""),
        "detail": problem.get("detail") or "",
        "step": path,
        "status": note.status,
    }


ENDED = {
    "zh": "有一步没有成功，流程按设定走了出错处理后结束",
    "en": "A step failed; the flow did what it says for that, and ended",
}
WENT_ON = {
    "zh": "有一步没有成功，流程按设定走了出错处理并继续",
    "en": "A step failed; the flow did what it says for that, and went on",
}

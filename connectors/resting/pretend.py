"""Pretend: what a rehearsal puts in place of other flows, awaited events and the store.

Nothing is kept or sent. A called flow gives what one says, an awaited event comes at once with the
data one says (or its type's sample), or not in time, and the store is a dictionary.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from connectors.stores import shelf
from connectors.stores.errors import Refused
from kernel import clock

if TYPE_CHECKING:
    from connectors.moving import Deed, Moving, Note


@dataclass
class Stage:
    """What a rehearsal finds outside of the run."""

    answers: Mapping[str, Any] = field(default_factory=dict)  # of calls, by step
    # the data of the events that waits get, by step; None: it does not come in time
    came: Mapping[str, Any] = field(default_factory=dict)
    kept: shelf.Shelf = field(default_factory=dict)
    sample_of: Callable[[str], Any] = lambda _event_type: {}
    fails: Mapping[str, str] = field(default_factory=dict)  # causes, by step


def act(moving: "Moving", stage: Stage) -> None:
    """Do what the run's present step asks for, as if it was done; a called run is over at once."""
    for deed in moving.deeds:
        if deed.found is None:
            deed.found = _ACTS[deed.kind](moving, deed, stage)
    moving.deeds = [one for one in moving.deeds if one.kind == "store"]
    moving.rests_anew = False
    rests = moving.state in ("due", "waiting") and not moving.is_over
    if rests and moving.step.kind in ("wait", "call"):
        note, kind = moving.note(), moving.step.kind
        moving.state, moving.cause, moving.say = "leased", None, None
        if kind == "wait":
            moving.seen[moving.position] = _arrived(moving, note, stage)
        else:
            moving.seen[moving.position] = _child(moving, stage)


def _store(_moving: "Moving", deed: "Deed", stage: Stage) -> Any:
    try:
        output = shelf.do(stage.kept, deed.given)
    except Refused as no:
        return {"refused": {"cause": no.cause, "say": no.say}}
    deed.note.close("succeeded", output)
    return {"done": True}


def _arrived(moving: "Moving", note: "Note", stage: Stage) -> Any:
    step = moving.step
    event_type = str(step.settings.get("event_type"))
    data = stage.came[step.key] if step.key in stage.came else stage.sample_of(event_type)
    if data is None:
        note.output = {**note.output, "ended_at": clock.now().isoformat()}
        return []
    return [
        {
            "id": "evt_awaited",
            "type": event_type,
            "version": None,
            "subject": None,
            "time": clock.now().isoformat(),
            "source": "sample",
            "data": data,
        }
    ]


def _child(moving: "Moving", stage: Stage) -> Any:
    key = moving.step.key
    if key in stage.fails:
        return {"id": "run_called", "state": "parked", "cause": stage.fails[key], "result": None}
    result = {"output": stage.answers.get(key, {})}
    return {"id": "run_called", "state": "succeeded", "cause": None, "result": result}


def _done(_moving: "Moving", _deed: "Deed", _stage: Stage) -> Any:
    return True


def _begun(_moving: "Moving", deed: "Deed", _stage: Stage) -> Any:
    return {"run": deed.given["run_id"]}


_ACTS: dict[str, Callable[..., Any]] = {
    "store": _store,
    "await": _done,
    "unawait": _done,
    "call": _begun,
    "uncall": _done,
    "noted": _done,
}

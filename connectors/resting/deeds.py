"""Deeds: what steps do in the database, in the commit that records their runs.

A run whose lease was lost is not recorded, and none of its deeds is done. So whatever a step keeps,
calls or waits for exists exactly when its run knows of it.
"""

from collections.abc import Callable, Sequence
from typing import Any

from sqlmodel import Session

from connectors.moving import Deed, Moving
from connectors.resting import calls, waits
from connectors.stores import values
from connectors.stores.errors import Refused

# told to nobody: the run only had to be written down
_SILENT = ("await", "call", "unawait", "noted", "uncall")


def carry_out(session: Session, held: Sequence[Moving]) -> None:
    """Do what the runs that are still this worker's have to do now."""
    todo = [(moving, deed) for moving in held for deed in moving.deeds if deed.found is None]
    # in one order for all, so that no two workers wait for each other's rows
    for moving, deed in sorted(todo, key=lambda one: _place(*one)):
        deed.found = _DEEDS[deed.kind](session, moving, deed)


def forget_silent(moving: Moving) -> None:
    """Drop what was done and has nothing to say."""
    moving.deeds = [deed for deed in moving.deeds if deed.kind not in _SILENT]


def _place(moving: Moving, deed: Deed) -> tuple[str, str, str]:
    name = f"{deed.given.get('collection')}/{deed.given.get('entry')}"
    return moving.organization_id, deed.kind, name if deed.kind == "store" else moving.id


def _store(session: Session, moving: Moving, deed: Deed) -> dict[str, Any]:
    note, given = deed.note, deed.given
    try:
        output = values.do(session, moving.organization_id, given, moving.id)
    except Refused as no:
        return {"refused": {"cause": no.cause, "say": no.say}}
    note.close("succeeded", output)
    return {"done": True}


def _noted(_session: Session, _moving: Moving, _deed: Deed) -> bool:
    return True


_DEEDS: dict[str, Callable[[Session, Moving, Deed], Any]] = {
    "store": _store,
    "await": waits.begin,
    "unawait": waits.end,
    "call": calls.begin,
    "uncall": calls.cancel,
    "noted": _noted,
}

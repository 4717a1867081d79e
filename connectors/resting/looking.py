"""Looking: what a run that rests waits for, read when it is taken up."""

from sqlmodel import Session

from connectors.moving import Moving
from connectors.resting import calls, waits


def look(session: Session, moving: Moving) -> None:
    """Give a run that stands at a call or an awaited event what there is of it."""
    if moving.state != "leased" or moving.is_over:
        return
    kind = moving.step.kind
    if kind not in ("wait", "call"):
        return
    note = moving.notes.get(moving.position)
    known = note.output if note is not None else None
    if note is None or note.state == "succeeded" or not isinstance(known, dict):
        return
    if kind == "wait" and "match" in known:
        moving.seen[moving.position] = waits.look(session, moving, known)
    elif kind == "call" and "run" in known:
        moving.seen[moving.position] = calls.look(session, moving)

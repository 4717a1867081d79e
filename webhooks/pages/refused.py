"""What a source's page says of its quota, and of what was refused there."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from flask_babel import gettext
from sqlmodel import Session

from kernel.web import localized
from webhooks import advice, limits, refusals


def of_source(session: Session, organization_id: str, source_id: str) -> dict[str, Any]:
    """Return what a source's page says of its quota and of what was refused there."""
    found = refusals.find(session, organization_id, source_id)
    return {
        "quota": limits.find_of_source(session, organization_id, source_id),
        "own_quota": limits.own_numbers(session, organization_id, source_id),
        "above": limits.find(session, organization_id),
        "refused": _by_code(found.counts, found.latest) if found else [],
    }


def _by_code(
    counts: Mapping[str, Mapping[str, Any]], latest: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Put the notes of each code together, the code of the newest first."""
    codes = sorted(counts, key=lambda code: counts[code]["last_at"], reverse=True)
    found = []
    for code in codes:
        notes = [
            {**one, "why": _why(one), "at": datetime.fromisoformat(one["at"])}
            for one in latest
            if one["code"] == code
        ]
        title = notes[0]["title"] if notes else code
        found.append(
            {
                "code": code,
                "count": counts[code]["count"],
                "first_at": datetime.fromisoformat(counts[code]["first_at"]),
                "last_at": datetime.fromisoformat(counts[code]["last_at"]),
                "title": gettext(title),
                "advice": gettext(advice.on(code)),
                "notes": notes,
            }
        )
    return found


def _why(one: Mapping[str, Any]) -> str:
    if one.get("say"):
        return localized(one["say"])
    said = one["detail"]
    words: str = gettext(said) if said else ""
    try:
        return words % one["params"] if one["params"] else words
    except (KeyError, TypeError, ValueError):
        return words  # written down by another release, whose sentence had other places

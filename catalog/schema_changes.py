"""What changed from one version of an event type to the next, as a reader of its fields sees it."""

from dataclasses import dataclass
from typing import Any

from catalog.field_rows import FieldRow, fields_of


@dataclass(frozen=True)
class Change:
    """One difference: `added`, `removed`, `kind`, `needed`, `optional` or `rules`, and where."""

    what: str
    path: str
    before: str = ""
    after: str = ""


def changes(old: dict[str, Any], new: dict[str, Any]) -> list[Change]:
    """List what differs in the fields of two schemas, in reading order of the new one."""
    before = {row.path: row for row in fields_of(old)}
    after = {row.path: row for row in fields_of(new)}
    found = [Change("removed", path) for path in before if path not in after]
    for path, row in after.items():
        if path not in before:
            found.append(Change("added", path, after=row.kind))
        else:
            found += _differences(before[path], row)
    return found


def _differences(old: FieldRow, new: FieldRow) -> list[Change]:
    found = []
    if old.kind != new.kind:
        found.append(Change("kind", new.path, old.kind, new.kind))
    if old.is_required != new.is_required:
        found.append(Change("needed" if new.is_required else "optional", new.path))
    if old.rules != new.rules and old.kind == new.kind:
        found.append(Change("rules", new.path, " ".join(old.rules), " ".join(new.rules)))
    return found

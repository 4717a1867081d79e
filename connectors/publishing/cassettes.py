"""Cassettes: the recorded examples of a folder in words, read as plain data and nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from connectors.engine import yaml_lines
from connectors.publishing.archives import Files

MOST = 80
MAX_BYTES = 64 * 1024


@dataclass(frozen=True)
class Recording:
    """One example: what is sent, what comes back, and what the hub makes of it."""

    file: str
    title: Any
    part: str
    sends: str
    gets: str
    gives: str
    body: Any = None  # of the request


def recordings(files: Files) -> list[Recording]:
    """Return the examples of a folder that can be read, the first of many."""
    names = [one for one in sorted(files) if one.startswith("fixtures/")]
    found = (_read(name, files[name]) for name in names[:MOST])
    return [one for one in found if one is not None]


def _read(name: str, raw: bytes) -> Recording | None:
    if len(raw) > MAX_BYTES:
        return None
    try:
        value = yaml_lines.parse(raw).value
    except yaml_lines.Unreadable:
        return None
    if not isinstance(value, dict):
        return None
    kinds = ("action", "trigger", "lifecycle", "token", "reconcile")
    kind = next((one for one in kinds if one in value), "")
    sent, got = _map(value.get("request")), _map(value.get("response"))
    said = _map(value.get("answer"))
    failure = _map(value.get("failure"))
    return Recording(
        file=name,
        title=value.get("title") or {},
        part=f"{kind} {value.get(kind, '')}".strip(),
        sends=f"{sent.get('method', '')} {sent.get('url', '')}".strip(),
        gets=str(got.get("status") or failure.get("kind") or ""),
        gives=str(said.get("kind") or value.get("refused") or ("ok" if "output" in value else "")),
        body=sent.get("json") or sent.get("form"),
    )


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}

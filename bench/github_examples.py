"""GitHub's published example payloads and schemas, as the npm packages of that name carry them."""

import hashlib
import hmac
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import jsonschema

from bench.hub import ROOT

PACKAGES = ROOT / "node_modules" / "@octokit"
SOURCE = {
    "name": "GitHub",
    "scheme": "github",
    "type_rules": {"from": "header", "value": "x-github-event", "prefix": "github."},
}


@dataclass(frozen=True)
class Example:
    """One published payload."""

    name: str  # as listed: folder/event.action#number
    event: str
    body: bytes
    fits: bool  # whether the published schema accepts it; True where none is published


def schemas() -> dict[str, dict[str, Any]]:
    """Return one self-contained JSON Schema per event name."""
    whole = json.loads((PACKAGES / "webhooks-schemas/schema.json").read_text())
    roots = {}
    for definition in whole["definitions"]:
        if definition.endswith("_event"):
            roots[definition.removesuffix("_event")] = definition
        elif definition.endswith("$event"):
            roots.setdefault(definition.removesuffix("$event"), definition)
    return {event: _closed(whole, root) for event, root in sorted(roots.items())}


def _closed(whole: dict[str, Any], root: str) -> dict[str, Any]:
    """Cut out what one definition reaches, so that no schema leans on another file."""
    needed: dict[str, Any] = {}
    waiting = [root]
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed[name] = whole["definitions"][name]
            waiting += _references(needed[name])
    return {"$schema": whole["$schema"], "$ref": f"#/definitions/{root}", "definitions": needed}


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "$ref":
                yield inner.removeprefix("#/definitions/")
            else:
                yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


def examples(known: dict[str, dict[str, Any]]) -> list[Example]:
    """Return every payload of every folder, each judged by the published schema with jsonschema."""
    judges = {
        name: jsonschema.validators.validator_for(s)(s, format_checker=_formats())
        for name, s in known.items()
    }
    found = []
    for index in sorted((PACKAGES / "webhooks-examples").glob("*/index.json")):
        for entry in json.loads(index.read_text()):
            for number, payload in enumerate(entry["examples"]):
                action = f".{payload['action']}" if isinstance(payload.get("action"), str) else ""
                judge = judges.get(entry["name"])
                found.append(
                    Example(
                        name=f"{index.parent.name}/{entry['name']}{action}#{number}",
                        event=entry["name"],
                        body=json.dumps(payload, ensure_ascii=False).encode(),
                        fits=judge is None or judge.is_valid(payload),
                    )
                )
    return found


def _formats() -> jsonschema.FormatChecker:
    """Check what the published schemas say of times and addresses, in words of our own."""
    checker = jsonschema.FormatChecker(formats=())
    moment = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)
    checker.checks("date-time")(lambda v: not isinstance(v, str) or bool(moment.fullmatch(v)))
    checker.checks("uri")(lambda v: not isinstance(v, str) or bool(urlsplit(v).scheme))
    return checker


def signed_headers(example: Example, secret: str, delivery_id: str) -> dict[str, str]:
    """Return the headers GitHub sends along."""
    digest = hmac.new(secret.encode(), example.body, hashlib.sha256).hexdigest()
    return {
        "Content-Type": "application/json",
        "User-Agent": "GitHub-Hookshot/demo",
        "X-GitHub-Event": example.event,
        "X-GitHub-Delivery": delivery_id,
        "X-Hub-Signature-256": f"sha256={digest}",
    }

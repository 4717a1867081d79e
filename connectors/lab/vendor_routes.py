"""The addresses of a lab vendor, made from request templates, and which of them a call means."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from connectors.engine import templates
from connectors.engine.connector import RequestTemplate
from connectors.engine.nodes import Path
from connectors.lab.vendor_calls import Call


@dataclass(frozen=True, slots=True)
class Route:
    """One address of the vendor: an action, a lifecycle step or a look for missing events."""

    key: str
    kind: str
    method: str
    pattern: re.Pattern[str]
    names: tuple[str, ...]


def route_of(key: str, request: RequestTemplate, kind: str) -> Route:
    """Return the route a request template calls."""
    template = templates.parse(request.path)
    method = "*" if request.method.startswith("${") else request.method
    if template.is_typed:
        return Route(key, kind, method, re.compile(r"(/(?!_mock/|_page/).*)"), ("path",))
    pattern, names = "", []
    for piece in template.pieces:
        if isinstance(piece, str):
            pattern += re.escape(piece)
        else:
            node = piece.node
            names.append(str(node.steps[-1]) if isinstance(node, Path) else piece.text)
            pattern += "([^/]+)"
    return Route(key, kind, method, re.compile(pattern), tuple(names))


def likeness(request: RequestTemplate, call: Call) -> int | None:
    """Return how many values a template fixes that a call has; None when it lacks one.

    Some apps do everything at one address: what is fixed in headers, query and body, however deep,
    tells their calls apart.
    """
    query = _fields(request.query)
    template = request.form if request.form is not None else request.json
    given = call.body if template is not None else {}
    headers = {name.lower(): text for name, text in request.headers.items()}
    found = [
        *_pairs(query, call.query),
        *_pairs(headers, call.headers),
        *_pairs(_fields(template), given),
    ]
    return len(found) if all(str(one) == str(other) for one, other in found) else None


def _fields(document: Any) -> Mapping[str, Any]:
    if not isinstance(document, Mapping):
        return {}
    return document["object"] if set(document) == {"object"} else document


def _pairs(stated: Any, given: Any) -> Iterator[tuple[Any, Any]]:
    """Give each fixed value of a template with what stands in its place."""
    if isinstance(stated, Mapping):
        if set(stated) == {"const"}:
            yield stated["const"], given
            return
        if stated.keys() & {"optional", "when", "each", "default", "code_table", "rest"}:
            return
        for name, value in _fields(stated).items():
            yield from _pairs(value, given.get(name) if isinstance(given, Mapping) else None)
    elif isinstance(stated, str | int) and "${" not in str(stated):
        yield stated, given

"""Drafts: a request whose parts can still be changed, until its bytes are written once."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from connectors.engine import mapping, templates, urls
from connectors.engine.auth import CannotBuild
from connectors.engine.connector import RequestTemplate
from connectors.engine.findings import say
from connectors.engine.functions import EvaluationError, to_text
from connectors.engine.urls import Base
from kernel import documents

MAX_BODY_BYTES = 1 << 20
FORM = "application/x-www-form-urlencoded"
_NOTHING = object()


@dataclass(slots=True)
class Draft:
    """A request in parts: addresses and values as they will be sent, the body not yet bytes."""

    method: str
    base: Base
    path: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    json: Any = _NOTHING
    form: list[tuple[str, str]] | None = None
    raw: bytes = b""

    @property
    def has_json(self) -> bool:
        """Tell whether the body is a JSON document."""
        return self.json is not _NOTHING

    def put(self, part: str, values: Mapping[str, str]) -> None:
        """Set values in the header, query, form or json part; what has the name gives way."""
        if not values:
            return
        if part == "header":
            told = {name.lower() for name in values}
            kept = {name: one for name, one in self.headers.items() if name.lower() not in told}
            self.headers = {**kept, **values}
        elif part == "query":
            self.query = _set(self.query, values)
        elif part == "form":
            if self.has_json or self.raw:
                raise _other_body()
            self.form = _set(self.form or [], values)
        else:
            self._put_json(values)

    def default(self, header: str, value: str) -> None:
        """Set a header unless it is there, in whatever letters."""
        if all(name.lower() != header.lower() for name in self.headers):
            self.headers[header] = value

    def _put_json(self, values: Mapping[str, str]) -> None:
        if self.form is not None or self.raw:
            raise _other_body()
        known = self.json if self.has_json else {}
        if not isinstance(known, dict):
            raise _other_body()
        self.json = {**known, **values}

    def body(self) -> bytes:
        """Return the body's bytes, the same however often it is asked; raises CannotBuild."""
        if self.has_json:
            written = b"" if self.json is None else documents.dump(self.json)
        elif self.form is not None:
            written = urlencode(self.form).encode()
        else:
            written = self.raw
        if len(written) > MAX_BODY_BYTES:
            raise CannotBuild("data", say("请求内容超过 1 MiB", "The request is over 1 MiB"))
        return written

    def target(self) -> str:
        """Return path and query exactly as they stand in the request line."""
        whole = self.url()
        scheme = whole.find("://") + 3
        slash = whole.find("/", scheme)
        return whole[slash:] if slash >= 0 else "/" + whole[scheme:].partition("?")[1]

    def url(self) -> str:
        """Return the whole address; raises CannotBuild when it is too long."""
        return urls.join(self.base, self.path, self.query)


def blank() -> Draft:
    """Return a draft that goes nowhere, for looking at a body."""
    return Draft("POST", Base("https", "", 443, ""), "", [], {})


def _set(pairs: Iterable[tuple[str, str]], values: Mapping[str, str]) -> list[tuple[str, str]]:
    return [one for one in pairs if one[0] not in values] + list(values.items())


def _other_body() -> CannotBuild:
    text = say(
        "签名参数与请求内容的形式不一致",
        "The parameters to put do not go with the kind of body this request has",
    )
    return CannotBuild("config", text)


def fill(draft: Draft, template: RequestTemplate, activation: Mapping[str, Any]) -> None:
    """Give a draft the body its template describes, and the media type that goes with it."""
    if template.json is not None:
        draft.json = _value(template.json, activation)
        kind = "application/json" if draft.json is not None else None
    elif template.form is not None:
        draft.form = pairs(template.form, activation, "/form")
        kind = FORM
    elif template.raw is not None:
        draft.raw = _text(template.raw.text, activation).encode()
        kind = template.raw.type
    else:
        kind = None
    if kind:
        draft.default("Content-Type", kind)


def pairs(document: Any, activation: Mapping[str, Any], at: str) -> list[tuple[str, str]]:
    """Return a mapping document's object as pairs: null is left out, a list repeats its name."""
    try:
        values = mapping.prepare_once(document).apply(activation) or {}
        if not isinstance(values, Mapping):
            raise EvaluationError(say("这里须是对象", "This must be an object"))
        found: list[tuple[str, str]] = []
        for name, value in values.items():
            every = value if isinstance(value, list) else [value]
            found += [(name, to_text(one)) for one in every if one is not None]
        return found
    except mapping.MappingError as lost:
        raise CannotBuild("data", lost.say, at, lost.problems) from lost
    except EvaluationError as lost:
        raise CannotBuild("data", lost.say, at) from lost


def _value(document: Any, activation: Mapping[str, Any]) -> Any:
    try:
        return mapping.prepare_once(document).apply(activation)
    except mapping.MappingError as lost:
        raise CannotBuild("data", lost.say, lost.problems[0].target, lost.problems) from lost


def _text(text: str, activation: Mapping[str, Any]) -> str:
    try:
        return templates.parse(text).write(activation, str)
    except EvaluationError as lost:
        raise CannotBuild("data", lost.say, "/raw") from lost

"""What a connector is once its folder is read: frozen, typed, with nothing left to parse."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from connectors.engine.call_budgets import CallBudget
from connectors.engine.declared import Batch, Fetch, Lookup, Pages, ReadyMap
from connectors.engine.findings import Say
from connectors.engine.lines_open import Stream

EFFECTS = ("read", "create", "update", "upsert", "delete")
CAUSES = ("data", "auth", "config", "down", "limit", "unknown")
LIFECYCLE_STEPS = ("install", "subscribe", "unsubscribe", "uninstall", "test")


@dataclass(frozen=True, slots=True)
class Field:
    """One thing a person types when connecting."""

    title: Say
    is_secret: bool = False
    is_optional: bool = False
    help: Say | None = None


@dataclass(frozen=True, slots=True)
class Placement:
    """Where texts go in a request: name → text, for each of its parts."""

    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, str] = field(default_factory=dict)
    json: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sign:
    """How a request is signed: `first` needs no request, `before` is put, `then` reads it."""

    first: Sequence[Mapping[str, Any]]
    before: Placement
    then: Sequence[Mapping[str, Any]]
    put: Placement


@dataclass(frozen=True, slots=True)
class Auth:
    """One way to prove who calls; `apply` says where the proof goes."""

    id: str
    kind: str  # none | api_key | basic | oauth2_client | exchange | sign | oauth2_code
    title: Say
    fields: Mapping[str, Field]
    headers: Mapping[str, str]
    query: Mapping[str, str]
    token: Mapping[str, Any] | None = None  # of oauth2_client: {url, scope, client_auth}
    form: Mapping[str, str] = field(default_factory=dict)
    json: Mapping[str, str] = field(default_factory=dict)
    at: Mapping[str, Placement] = field(default_factory=dict)  # for a named base: elsewhere
    steps: tuple["TokenStep", ...] = ()  # how a token is had, in one or more requests
    early_seconds: int = 60  # renewed so long before its end
    keepalive_hours: int = 24  # a consent's token that nobody uses is renewed so often
    sign: Sign | None = None
    authorize: "Authorize | None" = None
    refresh: tuple["TokenStep", ...] = ()
    identity: "Identity | None" = None
    confidence: str = "documented"
    source: str | None = None

    @property
    def has_token(self) -> bool:
        """Tell whether it works with a token that has to be fetched."""
        return self.token is not None or bool(self.steps)


@dataclass(frozen=True, slots=True)
class ErrorRule:
    """When an answer looks like this, do that; the first match wins."""

    when: Mapping[str, Any]
    do: str  # retry | wait | reauth | fail | ok_duplicate | ok
    cause: str | None
    say: Say | None
    after: str | int | None
    confidence: str = "documented"
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Envelope:
    """How a vendor wraps its answers: texts with one expression each, or None."""

    ok: str | None = None
    data: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Http:
    """What all requests of a connector share."""

    base: str
    timeout_seconds: int
    max_response_bytes: int
    envelope: Envelope
    errors: tuple[ErrorRule, ...]
    ladder_seconds: tuple[int, ...]
    jitter: float
    bases: Mapping[str, str] = field(default_factory=dict)  # further addresses, by name
    budgets: tuple[CallBudget, ...] = ()
    transports: Mapping[str, str] = field(default_factory=dict)  # by base ("": its own), not HTTP


@dataclass(frozen=True, slots=True)
class RawBody:
    """A body written as text, with its media type."""

    text: str
    type: str


@dataclass(frozen=True, slots=True)
class RequestTemplate:
    """A request with `${…}` in it; at most one of json, form (mapping documents) and raw."""

    method: str
    path: str
    query: Any  # a mapping document that gives {parameter: value}, or None
    headers: Mapping[str, str]
    json: Any
    auth: str | None  # an auth's id; None: the connection's own; "none": no proof
    base: str | None = None  # one of the http part's bases; None: its own
    form: Any = None
    raw: RawBody | None = None
    url: str | None = None  # the whole address, instead of base and path


@dataclass(frozen=True, slots=True)
class Expires:
    """When a token ends: an expression over the answer, and what it counts."""

    value: str
    unit: str  # in_seconds | at_ms | at_seconds | at


@dataclass(frozen=True, slots=True)
class TokenStep:
    """One request on the way to a token, and what of its answer is kept."""

    request: RequestTemplate
    envelope: Envelope
    errors: tuple[ErrorRule, ...]
    save: Any  # a mapping document over the answer that gives {name: text}
    expires: Expires | None = None
    client_auth: str | None = None  # basic | body: how an OAuth client names itself
    sign: Sign | None = None
    grant_expires: Expires | None = None  # when a person has to sign in again


@dataclass(frozen=True, slots=True)
class Authorize:
    """Where a person agrees (OAuth 2 with a code): the page and its parameters."""

    url: str
    params: Mapping[str, str]
    pkce: bool = True
    client: str = "client_id"  # the parameter that names us
    issuer: str | None = None  # what the app names itself when it sends a browser back (RFC 9207)


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose account was connected: a request, and two texts over its answer (or the token)."""

    request: RequestTemplate | None
    envelope: Envelope
    errors: tuple[ErrorRule, ...]
    account: str | None
    label: str | None


@dataclass(frozen=True, slots=True)
class KeyField:
    """Where a vendor takes a number of ours that it accepts once: a pointer into the body."""

    pointer: str
    max: int = 64
    shape: str = "text"  # text | alnum | digits


@dataclass(frozen=True, slots=True)
class Find:
    """How to see whether something was created: an action, its input, and what of its output."""

    action: str
    given: Any  # a mapping document over input, settings and effect_key
    then: Any  # a mapping over data, input and effect_key; missing, null or empty: not there


@dataclass(frozen=True, slots=True)
class Action:
    """What a connector can do."""

    key: str
    title: Say
    effect: str
    input: Mapping[str, Any]
    output: Mapping[str, Any]
    request: RequestTemplate
    idempotency_header: str | None
    envelope: Envelope
    errors: tuple[ErrorRule, ...]
    result: Any  # a mapping document over data, body, header, status; None: the data as it is
    sample: Mapping[str, Any]
    summary: Say | None = None
    key_field: KeyField | None = None
    find: Find | None = None
    confidence: str = "documented"
    source: str | None = None
    pages: Pages | None = None
    batch: Batch | None = None

    @property
    def is_in_parts(self) -> bool:
        """Tell whether it takes several requests: pages of a list, or items a few at a time."""
        return self.pages is not None or self.batch is not None

    @property
    def may_repeat(self) -> bool:
        """Tell whether the app does it once, however often the same request comes."""
        return (
            self.effect in ("read", "delete", "upsert")
            or self.idempotency_header is not None
            or (self.key_field is not None and self.find is None)
        )

    @property
    def is_idempotent(self) -> bool:
        """Tell whether trying it again does no harm: the app, or a look before, sees to it."""
        return self.may_repeat or self.find is not None


@dataclass(frozen=True, slots=True)
class Every:
    """How often an app is asked that sends nothing by itself."""

    seconds: int  # unless its owner says otherwise
    least_seconds: int
    overlap_seconds: int  # how far a look goes back behind the last one
    window_seconds: int | None  # the longest time one list may span; None: any


@dataclass(frozen=True, slots=True)
class Reconcile:
    """How events that never came are found: in the app's list of deliveries, or of objects."""

    kind: str  # deliveries | objects
    input: Mapping[str, Any]  # schema of what a person tells, such as which repository
    request: RequestTemplate  # asks for one page of the list
    page: Any  # a mapping document over an answer that gives {items, next}
    link: str | None  # the parameter of a Link header's next address that names the next page
    item: Any  # a mapping document over one item: a delivery's facts, or the delivery itself
    redeliver: RequestTemplate | None  # asks for one delivery again
    keeps_hours: int  # how far back the app can be asked
    errors: tuple[ErrorRule, ...]
    envelope: Envelope
    every: Every | None = None  # set: nothing comes by itself, the list is all there is
    has_token: bool = False  # the app names where the next look begins, instead of a time


@dataclass(frozen=True, slots=True)
class Subscribe:
    """How the hub orders a trigger's webhook from the app by itself."""

    input: Mapping[str, Any]  # schema of what a person tells, such as which repository
    create: RequestTemplate
    save: Any  # a mapping document over the answer that gives {id, secret?}
    delete: RequestTemplate
    gone: tuple[int, ...]  # statuses that mean "already not there", which is fine
    list: RequestTemplate | None
    page: Any  # a mapping document over an answer that gives {items, next}
    link: str | None  # the parameter of a Link header's next address that names the next page
    match: Any  # a mapping document over one item that gives {id, url}
    renew: RequestTemplate | None
    lasts_hours: int | None  # None: until it is ended
    topic: str | None  # the app's word for the event, where it is no part of ours
    sample: Mapping[str, Any]  # one webhook as the app lists it
    errors: tuple[ErrorRule, ...]
    envelope: Envelope


@dataclass(frozen=True, slots=True)
class Trigger:
    """What starts a flow: how a delivery is proved and read."""

    key: str
    title: Say
    event: str
    version: int
    verify: Mapping[str, Any]
    type_from: Mapping[str, Any]
    dedupe: Mapping[str, Any]
    occurred_at: str | None
    subject: str | None
    data: str | None
    schema: Mapping[str, Any] | None
    sample: Mapping[str, Any]
    summary: Say | None = None
    reconcile: Reconcile | None = None
    subscribe: Subscribe | None = None
    confidence: str = "documented"
    source: str | None = None
    fetch: Fetch | None = None

    @property
    def every(self) -> Every | None:
        """Tell how often the app is asked; None when it sends by itself."""
        return self.reconcile.every if self.reconcile else None


@dataclass(frozen=True, slots=True)
class LifecycleStep:
    """One idempotent call of install, subscribe, unsubscribe, uninstall or test."""

    key: str
    request: RequestTemplate
    save: Any  # the same; what of it is kept: credentials, hook_secret, state, account, open_url
    gone: tuple[int, ...]  # statuses that mean "already not there", which is fine
    errors: tuple[ErrorRule, ...]
    envelope: Envelope


@dataclass(frozen=True)
class Connector:
    """A connector folder, read and frozen."""

    key: str
    version: str
    title: Say
    summary: Say
    slots: tuple[str, ...]
    hosts: tuple[str, ...]
    settings_hosts: tuple[str, ...]
    support: Mapping[str, str]
    settings: Mapping[str, Any]
    auth: tuple[Auth, ...]
    http: Http
    lifecycle: Mapping[str, LifecycleStep]
    triggers: Mapping[str, Trigger]
    actions: Mapping[str, Action]
    exempt: Mapping[str, str]
    folder: Path
    digest: str
    stream: Stream | None = None
    confidence: str = "documented"
    source: str | None = None
    lookups: Mapping[str, Lookup] = field(default_factory=dict)
    maps: Mapping[str, ReadyMap] = field(default_factory=dict)

    @cached_property
    def finds(self) -> bool:
        """Tell whether some action has to be looked for before it is done."""
        return any(one.find is not None for one in self.actions.values())

    @property
    def readme(self) -> str:
        """Return the connector's page as Markdown."""
        return (self.folder / "README.md").read_text(encoding="utf-8")

    @property
    def icon(self) -> Path:
        """Return where the SVG picture is."""
        return self.folder / "icon.svg"

    def auth_by_id(self, auth_id: str | None) -> Auth | None:
        """Return one way to prove who calls; None asks for the first."""
        if auth_id is None:
            return self.auth[0] if self.auth else None
        return next((one for one in self.auth if one.id == auth_id), None)


@dataclass(frozen=True)
class ConnectionValues:
    """What one connection contributes to a call; secrets are in the clear, for one call only."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    auth: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict, repr=False)
    token: Mapping[str, Any] | None = field(default=None, repr=False)
    moment: datetime | None = None  # instead of the clock, where a signature must come out exactly
    random: bytes | None = None  # the same for random bytes

"""What callers may write and what they get to see, for connectors, connections, flows and runs."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

Name = Annotated[str, Field(min_length=1, max_length=120)]
Words = dict[str, str]


class Strict(BaseModel):
    """What a caller writes: a name that is not known is refused."""

    model_config = ConfigDict(extra="forbid")


# --- the library -------------------------------------------------------------------------------


class ConnectorOut(BaseModel):
    """A connector in the library."""

    key: str
    version: str
    title: Words
    summary: Words
    slots: list[str]
    confidence: str = Field(description="proved | documented | unverified")
    source: str | None = Field(default=None, description="Who says so.")


class ActionOut(BaseModel):
    """What a connector can do."""

    key: str
    title: Words
    effect: str
    is_idempotent: bool
    input: dict[str, Any]
    output: dict[str, Any]
    sample: dict[str, Any]
    confidence: str
    source: str | None = None


class TriggerOut(BaseModel):
    """What a connector can start a flow with."""

    key: str
    title: Words
    event: str
    version: int
    sample: dict[str, Any]
    confidence: str
    source: str | None = None


class FieldOut(BaseModel):
    """One thing to fill in when connecting."""

    name: str
    title: Words
    is_secret: bool
    is_optional: bool


class AuthOut(BaseModel):
    """One way to prove who calls."""

    id: str
    kind: str
    title: Words
    confidence: str
    source: str | None = None
    fields: list[FieldOut]


class ConnectorDetailOut(ConnectorOut):
    """A connector with everything needed to connect and use it."""

    settings: dict[str, Any]
    auth: list[AuthOut]
    triggers: list[TriggerOut]
    actions: list[ActionOut]
    readme: str


# --- connections -------------------------------------------------------------------------------


class ConnectionIn(Strict):
    """A new connection; secret fields are sealed and never shown again."""

    connector: Name
    name: Annotated[str, Field(max_length=120)] | None = None
    auth: Name | None = None
    fields: dict[str, str] = Field(default_factory=dict)
    settings: dict[str, Any] = Field(default_factory=dict)


class ConnectionPatch(Strict):
    """What may change on a connection; a secret field left out keeps its value."""

    name: Name | None = None
    auth: Name | None = None
    fields: dict[str, str] | None = None
    settings: dict[str, Any] | None = None
    assistant_access: Literal["none", "read", "ask", "act"] | None = Field(
        default=None, description="What AI assistants may do over it."
    )
    credentials_end_at: AwareDatetime | None = Field(
        default=None,
        description="When the key ends, where the app does not tell.",
    )


class ConnectionOut(BaseModel):
    """A connection without its secrets."""

    id: str
    connector_key: str
    name: str
    auth: str | None
    settings: dict[str, Any]
    public_fields: dict[str, Any]
    state: str
    problem: dict[str, Any] | None
    checked_at: datetime | None
    account: dict[str, Any] | None = Field(
        default=None, description="Whose account it is, {id, name}, as far as the app told."
    )
    token_expires_at: datetime | None = None
    grant_expires_at: datetime | None = Field(
        default=None, description="When a person has to sign in at the app again, if it said so."
    )
    ends_at: datetime | None = Field(default=None, description="The soonest that needs a person.")
    ends_what: str | None = Field(default=None, description="consent | token | certificate | …")
    credentials_end_at: datetime | None = None
    paused_at: datetime | None = None
    installation_id: str | None
    assistant_access: str
    environment: str = Field(default="live", description="live or test")
    created_at: datetime


# --- flows -------------------------------------------------------------------------------------


DOCUMENT = (
    "A trigger and steps: `filter`, `map`, `action`, and with steps inside `branch` (`ways`, "
    "`else`), `each` (`over`, `steps`), `approval` (`refused`), and `delay`; see docs/flows.md."
    " The trigger's `order_key` says which runs go one after another, in the order of their "
    "events: `none` (the default: they go side by side), `flow` (all of the flow), `subject` "
    "(those of one subject), or an expression over the event such as `${event.data.order_no}` "
    "(those with the same value; events without one belong together). A run that fails holds "
    "those behind it until it is retried or cancelled."
)


class FlowIn(Strict):
    """A new flow: from a template with a connection for each of its connectors, or a document."""

    name: Name | None = None
    template: Name | None = None
    connections: dict[str, str] = Field(
        default_factory=dict, description="Connector key → connection id, for a template."
    )
    document: dict[str, Any] | None = Field(default=None, description=DOCUMENT)


class DraftIn(Strict):
    """A changed flow; `revision` is the one that was edited."""

    name: Name | None = None
    document: dict[str, Any] | None = Field(default=None, description=DOCUMENT)
    revision: int | None = None


class ProblemOut(BaseModel):
    """One thing that keeps a flow from being published."""

    pointer: str
    say: Words


class FlowOut(BaseModel):
    """A flow."""

    id: str
    name: str
    state: str
    published_version: int | None
    order_key: str | None = Field(
        description="What makes runs of the published version go one after another; null: nothing."
    )
    draft_revision: int
    template_key: str | None
    installation_id: str | None
    created_at: datetime


class FlowDetailOut(FlowOut):
    """A flow with the document that is edited and what still is wrong with it."""

    document: dict[str, Any]
    has_draft: bool
    problems: list[ProblemOut]


class VersionOut(BaseModel):
    """A published version."""

    number: int
    environment: str = Field(default="live", description="live or test")
    document: dict[str, Any]
    published_by: str | None
    published_at: datetime


class ChangeOut(BaseModel):
    """One thing that differs between two documents of a flow."""

    kind: str = Field(description="added, removed, moved or changed")
    step: str | None = Field(description="The step's key; null for the trigger.")
    field: str = Field(description="Of a changed value: where it stands, with dots.")
    before: Any
    after: Any


class TrialIn(Strict):
    """A sample event for a dry run; without one the flow's template or event type gives it."""

    event: dict[str, Any] | None = None
    document: dict[str, Any] | None = None


class TrialStepOut(BaseModel):
    """One step of a dry run."""

    key: str
    path: str = Field(description="Where it stands: `lines[0]/erp` is inside a loop's first item.")
    kind: str
    title: Any
    state: str
    input: Any
    output: Any
    request: dict[str, Any] | None
    problem: dict[str, Any] | None


class TrialOut(BaseModel):
    """What a flow would do; nothing was sent."""

    ok: bool
    state: str
    say: Words | None
    steps: list[TrialStepOut]


class ProofOut(BaseModel):
    """How a ready-made flow's last rehearsal went; nothing is sent in it."""

    state: str = Field(description="new (not rehearsed yet), ok or failed")
    proved_at: datetime | None
    hub_version: str
    trial_count: int = Field(description="Cases that were played against the apps' samples.")
    problems: list[dict[str, Any]] = Field(description="What does not hold: pointer, say.")


class TemplateOut(BaseModel):
    """A ready-made flow."""

    key: str
    title: Words
    summary: Words
    connectors: list[str]
    sample: dict[str, Any]
    proof: ProofOut | None = Field(default=None, description="The last nightly rehearsal.")


# --- runs --------------------------------------------------------------------------------------


class RunOut(BaseModel):
    """A run."""

    id: str
    flow_id: str
    flow_version: int
    event_id: str
    event_type: str
    state: str
    cause: str | None
    say: dict[str, Any] | None
    detail: str | None
    order_key: str | None = Field(
        description="The value its event has under the flow's order key. Runs of a flow with the "
        "same value go one after another; a waiting one without `next_at` waits for its turn."
    )
    next_step: int
    next_at: datetime | None
    attempt_count: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    details_removed_at: datetime | None = Field(
        default=None, description="When what the steps sent and got was taken away."
    )
    details_kept_days: int | None = Field(
        default=None, description="The days that the rule on details had then."
    )
    parent_run_id: str | None = Field(default=None, description="The run that called this one.")
    replayed_from: str | None = Field(
        default=None, description="The run whose earlier steps it took over."
    )
    environment: str | None = Field(default=None, description="`test`; null: live.")


class StepOut(BaseModel):
    """A step of a run."""

    key: str
    kind: str
    position: int
    path: str = Field(description="Where it stands: `lines[3]/erp` is inside a loop's fourth item.")
    title: Any
    state: str
    attempt_count: int
    input: Any
    output: Any
    problem: dict[str, Any] | None
    effect_key: str | None
    started_at: datetime | None
    finished_at: datetime | None
    elapsed_ms: int | None
    status: int | None
    taken_from: str | None = Field(default=None, description="The run that did it.")
    called_run: str | None = Field(default=None, description="The run that a call started.")


class RunDetailOut(RunOut):
    """A run with its steps, and in plain words what to do when it stopped."""

    flow_name: str
    waits_for: str | None = Field(description="The run in front that it waits for, in an order.")
    path: str = Field(description="The step it stands at; empty behind the last one.")
    runs_behind: int = Field(description="How many wait for it, in an order; counted up to 1000.")
    steps: list[StepOut]
    advice: dict[str, str] | None


class ReplayIn(Strict):
    """Where a run is repeated from."""

    start: Annotated[str, Field(pattern=r"^(step|beginning)$")] = "step"
    fresh_effect: bool = Field(
        default=False, description="Ask the app to do it once more, under a new effect key."
    )


class FromStepIn(Strict):
    """The step that a new run begins at."""

    step: Name = Field(description="Its key.")


class CorrectionOut(BaseModel):
    """What a corrected input would change, and what is wrong with it."""

    is_valid: bool
    problems: list[dict[str, Any]] = Field(description="pointer, and say in both languages")
    changes: list[dict[str, Any]] = Field(description="pointer, kind, before, after")


class InputIn(Strict):
    """The corrected input of the action that stopped."""

    input: Any


class DoneIn(Strict):
    """What a person found in the app: the step's output, if later steps need it."""

    output: Any = None


class BulkIn(Strict):
    """Parked runs of one flow and cause; without `canary` the first one is tried, alone."""

    flow_id: Name
    cause: Name | None = None
    canary: Name | None = None


class BulkOut(BaseModel):
    """The canary to wait for, or how many followed it."""

    canary: str
    replayed: int

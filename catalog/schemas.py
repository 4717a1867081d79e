"""What the catalogue's JSON routes take in and give out."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Words = dict[str, str]
Email = Annotated[str, StringConstraints(pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$", max_length=254)]
Title = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=120)]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=4_000)]
Url = Annotated[str, StringConstraints(pattern=r"^https?://\S+$", max_length=2_000)]
EventName = Annotated[
    str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+$", max_length=120)
]
Pointer = Annotated[str, StringConstraints(pattern=r"^(/[^/]+)+$", max_length=300)]


class _In(BaseModel):
    # a name we do not know is refused, so that nobody believes it did something
    model_config = ConfigDict(extra="forbid")


class BothTitles(_In):
    """A short text in both languages."""

    zh: Title
    en: Title


class BothTexts(_In):
    """A longer text in both languages."""

    zh: Text
    en: Text


# --- what may be chosen --------------------------------------------------------------------------


class LayerOut(BaseModel):
    """A Layer."""

    id: str
    name: Words
    about: Words


class SubScenarioOut(BaseModel):
    """A sub-scenario of a Slot."""

    id: str
    name: Words
    about: Words
    pains: dict[str, list[str]]


class SlotOut(BaseModel):
    """A Slot with its sub-scenarios."""

    id: str
    name: Words
    about: Words
    pains: dict[str, list[str]]
    sub_scenarios: list[SubScenarioOut]


class HitOut(BaseModel):
    """An app as a search finds it."""

    key: str
    name: Words
    tagline: Words
    layer: str
    facets: dict[str, list[str]]
    is_demo: bool
    has_release: bool


class ResultsOut(BaseModel):
    """A page of found apps with counts for every facet."""

    items: list[HitOut]
    total: int
    facets: dict[str, dict[str, int]]
    is_partial: bool
    instead: str | None
    without: dict[str, int]
    next_cursor: str | None


class FactOut(BaseModel):
    """One thing that is known of an app, and how surely: confirmed, likely, memory or vendor."""

    value: Any
    confidence: str


class AppOut(BaseModel):
    """An app's shelf page."""

    key: str
    name: Words
    tagline: Words
    description: Words | None
    layer: str
    slots: list[str]
    sub_scenarios: list[str]
    vendor: Words
    vendor_state: str
    version: str | None
    plans: list[dict[str, Any]]
    scopes: list[dict[str, Any]]
    data_table: list[dict[str, Any]]
    facts: dict[str, FactOut]
    bundles: list[str]
    is_demo: bool


class BundleOut(BaseModel):
    """A bundle; every figure in `plan` is an assumption."""

    key: str
    name: Words
    story: Words
    items: list[dict[str, Any]]
    plan: dict[str, Any]
    flow_template: str | None
    is_base: bool
    is_demo: bool


# --- event types ---------------------------------------------------------------------------------


class EventTypeOut(BaseModel):
    """An event type's name and place."""

    name: str
    version: int
    title: Words
    sub_scenario: str | None
    natural_key: list[str]
    key_if_given: list[str]
    origin: str


class EventTypeDetailOut(EventTypeOut):
    """An event type with its self-contained JSON Schema and a sample."""

    term_source: str
    terms: list[dict[str, str]]
    json_schema: dict[str, Any] = Field(serialization_alias="schema")
    sample: Any


class CustomEventTypeIn(_In):
    """An organization's own event type."""

    name: EventName
    title: BothTitles
    json_schema: dict[str, Any] = Field(alias="schema")
    sample: Any = None
    natural_key: list[Pointer] = Field(default_factory=list, max_length=8)


class CustomEventTypeOut(BaseModel):
    """A stored version of an organization's own event type."""

    id: str
    name: str
    version: int
    title: Words
    json_schema: dict[str, Any]
    sample: Any
    natural_key: list[str]
    created_at: datetime
    retired_at: datetime | None


# --- vendors and releases ------------------------------------------------------------------------


class VendorIn(_In):
    """An application to become a vendor."""

    name: BothTitles
    contact_email: Email
    credit_code: Annotated[str, StringConstraints(max_length=40)] | None = None
    homepage: Url | None = None
    about: BothTexts | None = None


class VendorOut(BaseModel):
    """A vendor as its own organization and the operator see it."""

    id: str
    key: str
    name: Words
    state: str
    reason: str | None
    contact_email: str | None
    credit_code: str | None
    homepage: str | None
    created_at: datetime


class ReleaseIn(_In):
    """A manifest as text, YAML or JSON."""

    manifest: Annotated[str, StringConstraints(min_length=1, max_length=262_144)]


class ReleaseOut(BaseModel):
    """A release and what review said of it."""

    id: str
    app_id: str
    version: str
    state: str
    findings: list[dict[str, Any]]
    reason: str | None
    created_at: datetime
    decided_at: datetime | None
    published_at: datetime | None


class ReleaseDetailOut(ReleaseOut):
    """A release with its manifest."""

    manifest: dict[str, Any]


class CheckOut(BaseModel):
    """What a manifest's check found, without submitting it."""

    is_valid: bool
    findings: list[dict[str, Any]]


class DecisionIn(_In):
    """An operator's decision; a refusal needs its reason."""

    decision: Annotated[str, StringConstraints(pattern="^(approve|reject)$")]
    reason: Annotated[str, StringConstraints(max_length=4_000)] | None = None

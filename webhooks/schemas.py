"""What callers may write and what they get to see, for sources, events, endpoints, deliveries."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

Text = Annotated[str, Field(min_length=1, max_length=200)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_./:\-]{0,199}$")]
Patterns = Annotated[list[str], Field(min_length=1, max_length=100)]
SHORTEST_SECRET = 8
Secret = Annotated[str, Field(min_length=SHORTEST_SECRET, max_length=500)]


Filled = Annotated[
    dict[
        Annotated[str, Field(max_length=40)],
        Annotated[str, Field(max_length=16_384, json_schema_extra={"writeOnly": True})],
    ],
    Field(max_length=10),
]


class Input(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SourceIn(Input):
    """A new source."""

    name: Text
    scheme: Literal["standard_webhooks", "github", "hmac", "token", "none", "recipe"] = (
        "standard_webhooks"
    )
    secret: Secret | None = Field(None, description="Made for you when left out.")
    scheme_options: dict[str, Any] = Field(
        default_factory=dict,
        description="Of a way of proof; of the scheme `recipe` the whole recipe.",
    )
    offer: Text | None = Field(
        None, description="A known sender's way of proof instead: the key of an offer."
    )
    filled: Filled = Field(
        default_factory=dict, description="The values that the recipe or the offer asks for."
    )
    type_rules: dict[str, str | int] = {"from": "envelope"}
    unknown_types: Literal["accept", "reject"] = "accept"


class SourcePatch(Input):
    """What may change on a source; what is left out stays."""

    name: Text | None = None
    scheme_options: dict[str, Any] | None = None
    type_rules: dict[str, str | int] | None = None
    unknown_types: Literal["accept", "reject"] | None = None


class SourceOut(BaseModel):
    """A source without its secrets."""

    id: str
    name: str
    scheme: str
    scheme_options: dict[str, Any]
    type_rules: dict[str, Any]
    unknown_types: str
    connection_id: str | None
    state: str
    created_at: datetime


class SourceSecretOut(SourceOut):
    """A source with its address and secret, for those who may change it."""

    url: str
    secret: str | None
    filled: dict[str, str] = Field(description="What a recipe's owner filled in.")


class AskedOut(BaseModel):
    """A value that has to be filled in."""

    name: str
    title: dict[str, str]
    help: dict[str, str] | str
    is_secret: bool
    is_optional: bool


class OfferOut(BaseModel):
    """A sender whose way of proof is known: a source opens with its key."""

    key: str
    title: dict[str, str]
    text: dict[str, str]
    asks: list[AskedOut]


class FilledIn(Input):
    """New values; those they replace go on working for 24 hours."""

    filled: Filled


class SecretIn(Input):
    """A secret of one's own choice; left out, one is made."""

    secret: Secret | None = None


class EventIn(Input):
    """An event to send; `id` (or the header Idempotency-Key) makes sending it twice harmless."""

    type: Name
    data: Any
    version: int | None = Field(None, ge=1, le=999_999)
    id: Text | None = None
    subject: Text | None = None
    occurred_at: AwareDatetime | None = None


class AcceptedOut(BaseModel):
    """The id an event is stored under, and whether it was there before."""

    id: str
    duplicate: bool


class EventOut(BaseModel):
    """An event in a list."""

    id: str
    type: str
    version: int | None
    subject: str | None
    source_id: str | None
    origin: str
    state: str
    occurred_at: datetime
    received_at: datetime
    problem: dict[str, Any] | None


class EventDetailOut(EventOut):
    """An event with its data: JSON, or base64 text when it is something else."""

    content_type: str
    headers: dict[str, Any]
    data: Any


class QuotaIn(Input):
    """What a source may send; null leaves it to the organization's quota."""

    per_minute: int | None = Field(None, ge=1, le=1_000_000_000)
    per_day: int | None = Field(None, ge=1, le=1_000_000_000)


class LimitsOut(BaseModel):
    """The quotas that hold."""

    per_minute: int
    burst: int
    per_day: int
    backlog: int


class RefusalCountOut(BaseModel):
    """How often a code was met at a source."""

    code: str
    count: int
    first_at: datetime
    last_at: datetime
    advice: str


class RefusalOut(BaseModel):
    """One request that was refused; headers and address are the sender's own words."""

    at: datetime
    code: str
    detail: str
    headers: dict[str, str]
    sender: str


class RefusalsOut(BaseModel):
    """What was refused at a source: counted by code, and the last few, newest first."""

    counts: list[RefusalCountOut]
    latest: list[RefusalOut]


class WaitingOut(BaseModel):
    """What waited when it was last counted."""

    events: int
    deliveries: int
    runs: int
    counted_at: datetime | None


class SpanOut(BaseModel):
    """What was counted in an hour or a day."""

    start: datetime
    counts: dict[str, int]


class UsageOut(BaseModel):
    """An organization's usage beside its quotas."""

    quota: LimitsOut
    used_today: int
    day_ends_at: datetime
    waiting: WaitingOut
    spans: list[SpanOut]

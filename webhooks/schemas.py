"""What callers may write and what they get to see, for sources, events, endpoints, deliveries."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

Text = Annotated[str, Field(min_length=1, max_length=200)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_./:\-]{0,199}$")]
Patterns = Annotated[list[str], Field(min_length=1, max_length=100)]
SHORTEST_SECRET = 8
Secret = Annotated[str, Field(min_length=SHORTEST_SECRET, max_length=500)]


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SourceIn(_In):
    """A new source."""

    name: Text
    scheme: Literal["standard_webhooks", "github", "hmac", "token", "none"] = "standard_webhooks"
    secret: Secret | None = Field(None, description="Made for you when left out.")
    scheme_options: dict[str, str | int] = Field(default_factory=dict)
    type_rules: dict[str, str | int] = {"from": "envelope"}
    unknown_types: Literal["accept", "reject"] = "accept"


class SourcePatch(_In):
    """What may change on a source; what is left out stays."""

    name: Text | None = None
    scheme_options: dict[str, str | int] | None = None
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


class SecretIn(_In):
    """A secret of one's own choice; left out, one is made."""

    secret: Secret | None = None


class EventIn(_In):
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


class EndpointIn(_In):
    """A new endpoint."""

    url: Annotated[str, Field(min_length=8, max_length=2000)]
    event_types: Patterns
    description: Annotated[str, Field(max_length=500)] = ""


class EndpointPatch(_In):
    """What may change on an endpoint; what is left out stays."""

    url: Annotated[str, Field(min_length=8, max_length=2000)] | None = None
    event_types: Patterns | None = None
    description: Annotated[str, Field(max_length=500)] | None = None


class EndpointOut(BaseModel):
    """An endpoint without its secret."""

    id: str
    url: str
    description: str
    event_types: list[str]
    state: str
    disabled_reason: str | None
    failing_since: datetime | None
    created_at: datetime


class EndpointSecretOut(EndpointOut):
    """An endpoint with its signing secret, for those who may change it."""

    secret: str


class TriedOut(BaseModel):
    """What came of a test message."""

    event_id: str
    status: int | None
    failure: str | None
    elapsed_ms: int
    response_body: str


class RecoverIn(_In):
    """Since when an endpoint shall get what it missed."""

    since: AwareDatetime


class RecoveredOut(BaseModel):
    """How many deliveries were started."""

    deliveries: int


class DeliveryOut(BaseModel):
    """One event on its way to one endpoint."""

    id: str
    event_id: str
    endpoint_id: str
    state: str
    attempt_count: int
    next_at: datetime | None
    last_problem: str | None
    last_status: int | None
    delivered_at: datetime | None
    created_at: datetime


class AttemptOut(BaseModel):
    """One HTTP try."""

    id: str
    number: int
    started_at: datetime
    elapsed_ms: int
    status: int | None
    failure: str | None
    request_headers: dict[str, Any]
    response_headers: dict[str, Any]
    response_body: str

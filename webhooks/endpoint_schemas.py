"""What the API takes and gives about endpoints: their deliveries, bulk replays and portal links."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, Field, field_validator

from webhooks import own_headers
from webhooks.schemas import Input, Patterns


class HeaderIn(Input):
    """A header of one's own; a secret one is never shown again."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    value: Annotated[str, Field(max_length=2000)] | None = Field(
        None, description="Left out on a change, the value kept under this name stays."
    )
    is_secret: bool = False


class HeaderOut(BaseModel):
    """A header that goes along with every message; the value of a secret one is null."""

    name: str
    value: str | None
    is_secret: bool


Headers = Annotated[list[HeaderIn], Field(max_length=20)]
Kind = Literal["hmac", "ed25519"]
Condition = Annotated[
    str,
    Field(
        max_length=2000,
        description="CEL over `event`, such as event.data.total > 100; what it is false for is not"
        " sent, what it cannot be computed for is set aside.",
    ),
]


Large = Annotated[
    Literal["reference", "inline"],
    Field(description="How data above 256 kB goes out: as an address to fetch it from, or whole."),
]
IN_FLIGHT = (
    "How many requests may be under way to it at once, over the whole hub. Left to the hub, each"
    " worker has up to 8."
)
Ordering = Literal["none", "endpoint", "subject"]
ORDERING = (
    "`endpoint`: one after another in the order of the events; `subject`: those of one subject one"
    " after another. One that fails holds those behind it."
)


class EndpointIn(Input):
    """A new endpoint."""

    url: Annotated[str, Field(min_length=8, max_length=2000)]
    event_types: Patterns
    description: Annotated[str, Field(max_length=500)] = ""
    signature: Kind = Field("hmac", description="A shared secret, or a key pair of the hub's.")
    headers: Headers = []
    condition: Condition | None = None
    large_payloads: Large = "reference"
    max_in_flight: int | None = Field(None, ge=1, le=32, description=IN_FLIGHT)
    ordering: Ordering = Field("none", description=ORDERING)


class EndpointPatch(Input):
    """What may change on an endpoint; what is left out stays."""

    url: Annotated[str, Field(min_length=8, max_length=2000)] | None = None
    event_types: Patterns | None = None
    description: Annotated[str, Field(max_length=500)] | None = None
    headers: Headers | None = None
    condition: Annotated[str, Field(max_length=2000)] | None = Field(
        None, description="An empty text takes the condition away."
    )
    large_payloads: Large | None = None
    max_in_flight: int | None = Field(
        None, ge=0, le=32, description=f"{IN_FLIGHT} 0 leaves it to the hub again."
    )
    ordering: Ordering | None = Field(None, description=ORDERING)


Minutes = Annotated[
    int, Field(ge=1, le=10_080, description="How long the address may wait to be opened, once.")
]


class PortalLinkIn(Input):
    """What a subscriber, a partner without an account, may do with endpoints of its own."""

    subscriber_name: Annotated[str, Field(min_length=1, max_length=120)]
    subscriber_id: Annotated[str, Field(max_length=40)] | None = Field(
        None, description="Of an earlier link, for the same subscriber and its endpoints."
    )
    event_types: Patterns
    origins: Annotated[list[str], Field(max_length=10)] = Field(
        default_factory=list, description="Websites that may frame the portal; none by default."
    )
    max_endpoints: int = Field(5, ge=1, le=50)
    colour: Annotated[str, Field(max_length=7)] | None = None
    expires_at: AwareDatetime | None = Field(None, description="In a year when left out.")
    minutes: Minutes = 60


class PortalAddressIn(Input):
    """How long a new address may wait."""

    minutes: Minutes = 60


class PortalLinkOut(BaseModel):
    """A link without an address."""

    id: str
    subscriber_id: str
    subscriber_name: str
    event_types: list[str]
    origins: list[str]
    max_endpoints: int
    colour: str | None
    state: str
    expires_at: datetime
    revoked_at: datetime | None
    created_at: datetime


class PortalAddressOut(PortalLinkOut):
    """A link with an address that opens the portal once."""

    url: str
    token: str = Field(
        description="The secret in the address: a page of an origin of the link may hand it to"
        " `POST /portal/enter` in the header `Authorization: Bearer …` instead."
    )
    url_expires_at: datetime


class CertificateIn(Input):
    """A client certificate in PEM, with the chain behind it, and its key without a password."""

    certificate: Annotated[str, Field(min_length=1, max_length=40_000)]
    private_key: Annotated[str, Field(min_length=1, max_length=20_000)]


class RotateIn(Input):
    """How long the old secret goes on signing, and which kind the new one is."""

    overlap_hours: int = Field(24, ge=0, le=168, description="0 ends every old secret at once.")
    signature: Kind | None = Field(None, description="The kind stays when left out.")


class EndpointOut(BaseModel):
    """An endpoint without its secret."""

    id: str
    url: str
    description: str
    event_types: list[str]
    signature: str
    public_key: str | None
    headers: list[HeaderOut]
    client_certificate: str | None
    certificate_until: datetime | None
    condition: str | None
    large_payloads: str
    subscriber_id: str | None
    state: str
    disabled_reason: str | None
    disabled_at: datetime | None
    max_in_flight: int | None
    ordering: str
    failing_since: datetime | None
    circuit: str = Field(
        description="`open`: the target is down or asked for a pause, so deliveries are held, but"
        " for a probe now and then; `refilling`: held deliveries are being let go bit by bit."
    )
    circuit_cause: str | None = Field(description="`down` or `asked`.")
    circuit_since: datetime | None
    circuit_at: datetime | None = Field(description="The next probe, or the next portion.")
    created_at: datetime

    @field_validator("headers", mode="before")
    @classmethod
    def _without_secrets(cls, rows: Any) -> Any:
        return own_headers.shown(rows)


class EndpointDetailOut(EndpointOut):
    """An endpoint with what it missed."""

    missed: int = Field(
        description="Deliveries that were parked while it was off; counted up to 10,000."
    )


class EndpointSecretOut(EndpointOut):
    """An endpoint with its signing secret, for those who may change it; null for ed25519."""

    secret: str | None


class TriedOut(BaseModel):
    """What came of a test message."""

    event_id: str
    status: int | None
    failure: str | None
    elapsed_ms: int
    response_body: str


class RecoverIn(Input):
    """Since when an endpoint shall get what it missed."""

    since: AwareDatetime


class RecoveredOut(BaseModel):
    """How many deliveries were started."""

    deliveries: int


class BulkReplayIn(Input):
    """Which events shall go to an endpoint once more."""

    endpoint_id: str
    since: AwareDatetime
    until: AwareDatetime | None = Field(None, description="Now when left out.")
    event_types: Annotated[list[str], Field(max_length=100)] = Field(
        default_factory=list, description="All that the endpoint gets when empty."
    )
    only_failed: bool = Field(True, description="False sends also what had arrived.")


class BulkReplayOut(BaseModel):
    """A bulk replay and how far it is."""

    id: str
    endpoint_id: str
    event_types: list[str]
    since: datetime
    until: datetime
    only_failed: bool
    state: str = Field(description="trying (the first few), running, done, stopped or cancelled")
    problem: str | None
    started: int
    passed_over: int = Field(description="Events that the endpoint's condition keeps out.")
    created_at: datetime
    finished_at: datetime | None


class BulkReplayDetailOut(BulkReplayOut):
    """A bulk replay with what became of its deliveries."""

    delivered: int
    on_the_way: int
    failed: int


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
    fetch_count: int | None = Field(description="How often data sent by reference was fetched.")
    fetched_at: datetime | None
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

"""What callers may write and what they get to see, for vendors' connectors."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Zip = Annotated[str, Field(max_length=720_000, description="The folder as a zip, in base64.")]


class EditionIn(BaseModel):
    """A connector's folder."""

    model_config = ConfigDict(extra="forbid")

    archive: Zip


class EditionFileIn(BaseModel):
    """One text file of a folder, as it shall be."""

    model_config = ConfigDict(extra="forbid")

    file: Annotated[str, Field(max_length=160)]
    text: Annotated[str, Field(max_length=262_144)]


class RehearsalIn(BaseModel):
    """An action that is tried without the app."""

    model_config = ConfigDict(extra="forbid")

    action: Annotated[str, Field(max_length=60)]
    input: Any
    answer: Annotated[str, Field(max_length=160)] | None = Field(
        default=None, description="The recorded example that answers, such as fixtures/x.ok.yaml."
    )


class RehearsalOut(BaseModel):
    """What would be sent, and what is made of the recorded answer."""

    findings: list[dict[str, Any]] = Field(default_factory=list)
    request: dict[str, Any] | None = None
    recorded: str | None = None
    answer: dict[str, Any] | None = None


class EditionStateIn(BaseModel):
    """What becomes of a version that was published."""

    model_config = ConfigDict(extra="forbid")

    state: Annotated[str, Field(pattern=r"^(published|deprecated|withdrawn)$")]
    reason: Annotated[str, Field(max_length=2_000)] = ""


class RecallIn(BaseModel):
    """Why a version shall work no more."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, Field(min_length=1, max_length=2_000)]


class EditionVerdictIn(BaseModel):
    """A reviewer's decision."""

    model_config = ConfigDict(extra="forbid")

    decision: Annotated[str, Field(pattern=r"^(approve|reject)$")]
    reason: Annotated[str, Field(max_length=2_000)] = ""


class EditionOut(BaseModel):
    """One version of a vendor's connector."""

    id: str
    key: str = Field(description="What connections and flows call it once it is published.")
    vendor: str
    name: str
    version: str
    title: dict[str, Any]
    summary: dict[str, Any]
    state: str = Field(
        description="checking, failed, checked, in_review, rejected, published, deprecated, "
        "withdrawn or recalled"
    )
    digest: str
    trial: dict[str, Any] = Field(description="How the offline tests went, or how far they are.")
    findings: list[dict[str, Any]] = Field(description="rule, say, file, line, pointer")
    reach: dict[str, Any] = Field(description="hosts, effects, secrets, actions, triggers")
    compared_to: str | None
    changes: list[dict[str, Any]] = Field(description="at, say, is_breaking")
    is_allowed: bool = Field(description="Whether the version's number allows for the changes.")
    reason: str | None
    created_at: datetime
    decided_at: datetime | None
    published_at: datetime | None


class OfferedOut(BaseModel):
    """A vendor's connector that can be connected, its newest version."""

    key: str
    vendor: dict[str, Any]
    name: str
    version: str
    title: dict[str, Any]
    summary: dict[str, Any]
    slots: list[str]
    published_at: datetime | None


class UpgradeOut(BaseModel):
    """What was moved to a newer version."""

    connection_id: str
    connector_key: str
    flow_ids: list[str]

"""What comes in and leaves about environments."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from connectors.schemas import ChangeOut


class EnvironmentIn(BaseModel):
    """The environment that something is moved to."""

    model_config = ConfigDict(extra="forbid")

    environment: Literal["live", "test"]


class PlaceOut(BaseModel):
    """Where a connection or a source is now."""

    id: str
    environment: str


class StageOut(BaseModel):
    """What runs of a flow in one environment."""

    environment: str
    version: int
    state: str
    published_at: datetime


class StagesOut(BaseModel):
    """Both environments of a flow, and what a promotion would change for live runs."""

    live: StageOut | None
    test: StageOut | None
    changes: list[ChangeOut] = Field(description="From what runs live to what runs in test.")

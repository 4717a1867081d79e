"""What goes in and out of the shop's JSON routes."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class StepOut(BaseModel):
    """One step of a rollout; `title` and `say` are {zh, en}."""

    model_config = ConfigDict(from_attributes=True)

    kind: str
    app_key: str | None
    title: dict[str, str]
    state: str
    say: dict[str, str] | None
    attempt_count: int
    seconds: float | None
    is_slow: bool


class RolloutOut(BaseModel):
    """An install or uninstall under way or ended; it always ends `active` or `absent`."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    direction: str
    bundle_key: str | None
    app_key: str | None
    title: dict[str, str]
    state: str
    is_finished: bool
    is_cancelling: bool
    is_slow: bool
    problem: dict[str, str] | None
    notes: list[dict[str, Any]]
    steps: list[StepOut]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    seconds: float | None


class InstallationOut(BaseModel):
    """An app in the toolbox; `title` is {zh, en}."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    app_key: str | None
    release_id: str | None
    kind: str
    title: dict[str, str]
    slot: str | None
    state: str
    account: str | None
    open_url: str | None
    connection_id: str | None
    source_id: str | None
    bundle_key: str | None
    rollout_id: str | None
    installed_at: datetime | None
    uninstalled_at: datetime | None


class ExternalInstallationIn(BaseModel):
    """An app the organization runs itself: its address, and a name or the catalogue's key."""

    model_config = ConfigDict(extra="forbid")

    open_url: str = Field(max_length=2000)
    name: str = Field(default="", max_length=80)
    slot: str | None = Field(default=None, max_length=40)
    app_key: str | None = Field(default=None, max_length=80)


class ExternalInstallationPatch(BaseModel):
    """Changes to an app the organization runs itself; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    open_url: str | None = Field(default=None, max_length=2000)
    name: str | None = Field(default=None, max_length=80)
    slot: str | None = Field(default=None, max_length=40)


class CancelIn(BaseModel):
    """How to stop a rollout; `is_confirmed` also gives up runs that still wait."""

    model_config = ConfigDict(extra="forbid")

    is_confirmed: bool = False

"""What comes in and leaves about the data store."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field


class ValueIn(BaseModel):
    """A value to keep under a key of a collection."""

    model_config = ConfigDict(extra="forbid")

    collection: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,39}$")]
    key: Annotated[str, Field(min_length=1, max_length=200)]
    value: Any = Field(description="Any JSON value up to 64 kB.")
    expires_seconds: Annotated[int, Field(gt=0, le=366 * 86_400)] | None = None


class ValueOut(BaseModel):
    """A kept value."""

    id: str
    collection: str
    key: str
    value: Any
    size: int = Field(description="Bytes of the value as compact JSON.")
    expires_at: datetime | None
    updated_at: datetime
    updated_by: str | None = Field(description="The run, or the person or key, that kept it.")


class CollectionOut(BaseModel):
    """A collection of kept values."""

    collection: str
    count: int
    bytes: int
    updated_at: datetime

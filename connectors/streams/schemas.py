"""What the JSON API of streams gives."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel


class StreamOut(BaseModel):
    """A stream that the hub listens to; its id is that of the source its events belong to."""

    id: str
    state: str
    connected_at: datetime | None
    last_at: datetime | None
    message_count: int
    problem: dict[str, Any] | None

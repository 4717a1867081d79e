"""What the JSON API of streams gives."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel


class StreamOut(BaseModel):
    """A stream that the hub listens to; its id is that of the source its events belong to."""

    id: str | None = None
    state: str = "off"
    connected_at: datetime | None = None
    last_at: datetime | None = None
    message_count: int = 0
    problem: dict[str, Any] | None = None

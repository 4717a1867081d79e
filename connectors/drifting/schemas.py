"""What leaves about drifts."""

from datetime import datetime

from pydantic import BaseModel


class DriftOut(BaseModel):
    """One way in which an app departs from its connector."""

    part: str  # action | trigger
    part_key: str
    kind: str  # new | missing | other | code
    path: str
    wanted: str
    example: str  # masked: letters as x, digits as 9
    count: int
    first_at: datetime
    last_at: datetime

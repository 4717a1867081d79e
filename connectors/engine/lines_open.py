"""Lines that the hub opens: how a manifest says that its app sends over one."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from connectors.engine.connector import TokenStep


@dataclass(frozen=True, slots=True)
class Stream:
    """How an app is listened to: DingTalk's Stream mode."""

    open: "TokenStep"  # asks for an endpoint and a ticket
    hosts: tuple[str, ...]  # where the endpoint may lead
    prefix: str  # of the events' types

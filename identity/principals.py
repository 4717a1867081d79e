"""Who acts now: a member at a browser, an API key, a subscriber in a portal, a link's guest."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Principal:
    """Who acts inside one organization, with everything it may do there."""

    organization_id: str
    user_id: str | None
    member_id: str | None
    role: str
    kind: Literal["member", "api_key", "subscriber", "guest"]
    permissions: frozenset[str]
    name: str = ""
    email: str = ""
    organization_name: str = ""
    language: str = "zh"
    is_vendor: bool = False
    is_operator: bool = False
    session_id: str | None = None
    api_key_id: str | None = None
    subscriber_id: str | None = None
    link_id: str | None = None  # of a guest: what let them in
    address: str | None = field(default=None, compare=False)

    def may(self, permission: str) -> bool:
        """Says whether this permission is held."""
        return permission in self.permissions

    @property
    def actor_id(self) -> str | None:
        """Names the key, the subscriber or the person, for the audit trail."""
        named = {
            "api_key": self.api_key_id,
            "subscriber": self.subscriber_id,
            "guest": self.link_id,
        }
        return named.get(self.kind, self.user_id)


@dataclass(frozen=True)
class Person:
    """A signed-in user, with or without a seat in an organization."""

    user_id: str
    session_id: str
    name: str
    email: str
    language: str

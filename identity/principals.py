"""Who acts now: a member at a browser, or an API key."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Principal:
    """One acting member or API key inside one organization, with everything it may do."""

    organization_id: str
    user_id: str | None
    member_id: str | None
    role: str
    kind: Literal["member", "api_key"]
    permissions: frozenset[str]
    name: str = ""
    email: str = ""
    organization_name: str = ""
    language: str = "zh"
    is_vendor: bool = False
    is_operator: bool = False
    session_id: str | None = None
    api_key_id: str | None = None
    address: str | None = field(default=None, compare=False)

    def may(self, permission: str) -> bool:
        """Says whether this permission is held."""
        return permission in self.permissions

    @property
    def actor_id(self) -> str | None:
        """Names the key or the person, for the audit trail."""
        return self.api_key_id if self.kind == "api_key" else self.user_id


@dataclass(frozen=True)
class Person:
    """A signed-in user, with or without a seat in an organization."""

    user_id: str
    session_id: str
    name: str
    email: str
    language: str

"""What identity's JSON routes take in and give out."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, StringConstraints

# PostgreSQL keeps no NUL in a text, and no keyboard has one.
_NO_NUL = r"^[^\x00]*$"
Email = Annotated[str, StringConstraints(min_length=3, max_length=254, pattern=_NO_NUL)]
Password = Annotated[str, StringConstraints(min_length=1, max_length=512)]
PersonName = Annotated[str, StringConstraints(min_length=1, max_length=80, pattern=_NO_NUL)]
OrganizationName = Annotated[str, StringConstraints(min_length=1, max_length=120, pattern=_NO_NUL)]
ShortText = Annotated[str, StringConstraints(max_length=60, pattern=_NO_NUL)]


class _In(BaseModel):
    # A name we do not know is refused, so that nobody believes it did something.
    model_config = ConfigDict(extra="forbid")


class SignUpIn(_In):
    """A firm and its first person."""

    organization_name: OrganizationName
    email: Email
    name: PersonName
    password: Password
    language: str = "zh"
    industry: ShortText | None = None
    size: ShortText | None = None


class OrganizationOut(BaseModel):
    """An organization as its members see it."""

    id: str
    name: str
    slug: str | None
    is_vendor: bool
    is_operator: bool
    industry: str | None
    size: str | None
    created_at: datetime


class OrganizationPatch(_In):
    """What may be changed; what is left out stays."""

    name: OrganizationName | None = None
    slug: ShortText | None = None
    industry: ShortText | None = None
    size: ShortText | None = None


class UserOut(BaseModel):
    """A person as they see themselves."""

    id: str
    email: str
    name: str
    language: str


class SignUpOut(BaseModel):
    """What a sign-up made; the API key is shown this once."""

    organization: OrganizationOut
    user: UserOut
    api_key: str


class MePatch(_In):
    """What a person may change about themselves."""

    name: PersonName | None = None
    language: str | None = None


class MeOut(BaseModel):
    """Who is asking, and what they may do."""

    kind: str
    organization_id: str
    organization_name: str
    user_id: str | None
    member_id: str | None
    api_key_id: str | None
    name: str
    email: str
    role: str
    language: str
    permissions: list[str]


class SeatOut(BaseModel):
    """A member and the person who sits there."""

    id: str
    user_id: str
    name: str
    email: str
    role: str
    created_at: datetime


class RoleIn(_In):
    """The role a seat shall have."""

    role: str


class InvitationIn(_In):
    """Whom to invite, and as what."""

    email: Email
    role: str = "member"


class InvitationOut(BaseModel):
    """An invitation that waits for an answer."""

    id: str
    email: str
    role: str
    invited_by: str | None
    created_at: datetime
    expires_at: datetime


class InvitationMadeOut(InvitationOut):
    """A new invitation with its link, which is shown this once."""

    link: str


class ApiKeyIn(_In):
    """A key to make; `permissions` narrows the role."""

    name: PersonName
    role: str = "integrator"
    permissions: list[str] | None = None
    expires_at: AwareDatetime | None = None


class ApiKeyOut(BaseModel):
    """A key without its secret."""

    id: str
    name: str
    hint: str
    role: str
    permissions: list[str] | None
    created_by: str | None
    created_at: datetime
    last_used_at: datetime | None
    expires_at: datetime | None


class ApiKeyMadeOut(ApiKeyOut):
    """A new key with its secret, which is shown this once."""

    secret: str


class AuditEntryOut(BaseModel):
    """One line of the audit trail."""

    id: str
    at: datetime
    actor_kind: str
    actor_id: str | None
    actor_name: str
    action: str
    object_id: str | None
    ip: str | None
    detail: Any

"""Key holders: the principal that an API key makes of whoever presents it, at any door."""

from dataclasses import dataclass

from identity import api_keys
from identity.principals import Principal
from identity.tables import Organization
from kernel.database import StoreUnavailable, reading, write


@dataclass(frozen=True, slots=True)
class Holder:
    """Who presents a key; nobody when both are None."""

    principal: Principal | None = None
    suspended: Organization | None = None  # whose key this would be, were it not so


def of_header(authorization: str) -> str | None:
    """Return the key in an Authorization header, None when it carries none of ours."""
    scheme, _, secret = authorization.partition(" ")
    is_ours = scheme.lower() == "bearer" and secret.startswith(api_keys.PREFIX)
    return secret.strip() if is_ours else None


def of_secret(secret: str, *, language: str, address: str | None) -> Holder:
    """Return who a key makes of its holder, and note that it was used."""
    organization_id = api_keys.organization_of(secret)
    if organization_id is None:
        return Holder()
    with reading(organization_id) as session:
        found = api_keys.find(session, secret)
    if found is None:
        return Holder()
    if found.organization.state == "suspended":
        return Holder(suspended=found.organization)
    key, organization = found.key, found.organization
    if api_keys.is_touch_due(key):
        _touch(organization_id, key.id)
    return Holder(
        Principal(
            organization_id=organization_id,
            user_id=key.created_by,
            member_id=None,
            role=found.role,
            kind="api_key",
            permissions=found.permissions,
            name=key.name,
            organization_name=organization.name,
            language=language,
            is_vendor=organization.is_vendor,
            is_operator=organization.is_operator,
            api_key_id=key.id,
            address=address,
        )
    )


def _touch(organization_id: str, key_id: str) -> None:
    """Note the use; a store that takes no writes does not stop readers."""
    try:
        write(lambda session: api_keys.touch(session, organization_id, key_id), organization_id)
    except StoreUnavailable:
        return

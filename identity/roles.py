"""Permissions by name, and which role holds which of them."""

from collections.abc import Mapping
from typing import Final

from kernel.errors import N_

# Every permission of the house, with the sentence that people read where they choose them.
PERMISSIONS: Final[Mapping[str, str]] = {
    "organization:read": N_("See the organization's details"),
    "organization:write": N_("Change the organization's details"),
    "members:read": N_("See who belongs to the organization"),
    "members:write": N_("Invite people, change their roles, remove them"),
    "api_keys:read": N_("See the API keys"),
    "api_keys:write": N_("Create and revoke API keys"),
    "audit:read": N_("Read the audit trail"),
    "releases:submit": N_("Publish apps and connectors"),
    "releases:review": N_("Review what vendors publish"),
    "vendors:review": N_("Admit vendors"),
    "hub:operate": N_("Run the hub"),
    "tenants:change": N_("Change what organizations may, suspend and resume them"),
    "apps:install": N_("Install and remove apps"),
    "installations:read": N_("See the installed apps"),
    "orders:write": N_("Order and pay for apps"),
    "flows:read": N_("See flows"),
    "flows:write": N_("Build and change flows"),
    "flows:run": N_("Start flows by hand"),
    "runs:read": N_("See what flows have done"),
    "runs:replay": N_("Repair and repeat runs"),
    "approvals:decide": N_("Decide what flows ask"),
    "connections:read": N_("See connections to apps"),
    "connections:write": N_("Connect and disconnect apps"),
    "assistants:call": N_("Let an AI assistant use connected apps"),
    "sources:read": N_("See where events come in"),
    "sources:write": N_("Change where events come in"),
    "events:read": N_("See events"),
    "events:send": N_("Send events"),
    "events:replay": N_("Repeat events"),
    "data:keep": N_("Decide how long data is kept"),
    "data:export": N_("Take events out as a file"),
    "data:erase": N_("Erase what is known of a person"),
    "endpoints:read": N_("See where events go out"),
    "endpoints:write": N_("Change where events go out"),
    "deliveries:read": N_("See deliveries"),
    "deliveries:replay": N_("Repeat deliveries"),
    "stores:read": N_("See what flows keep in the data store"),
    "stores:write": N_("Change and delete what flows keep"),
    "event_types:read": N_("See event types"),
    "event_types:write": N_("Define event types"),
}

VENDOR_PERMISSIONS: Final = frozenset({"releases:submit"})
OPERATOR_PERMISSIONS: Final = frozenset(
    {"releases:review", "vendors:review", "hub:operate", "tenants:change"}
)

# whoever is asked by name or role may decide; the question says who that is
_EVERYDAY = frozenset(
    {"organization:read", "members:read", "installations:read", "approvals:decide"}
)
_EVERYTHING = frozenset(PERMISSIONS) - VENDOR_PERMISSIONS - OPERATOR_PERMISSIONS
_WIRING = frozenset(
    name
    for name in PERMISSIONS
    if name.partition(":")[0]
    in {
        "assistants",
        "flows",
        "runs",
        "connections",
        "sources",
        "events",
        "endpoints",
        "deliveries",
        "event_types",
        "stores",
    }
)

# Owner and admin differ in one thing only: nobody but an owner makes or unmakes an owner.
_ROLE_PERMISSIONS: Final[Mapping[str, frozenset[str]]] = {
    "owner": _EVERYTHING,
    "admin": _EVERYTHING,
    "purchaser": _EVERYDAY | {"apps:install", "orders:write", "connections:read", "flows:read"},
    "finance": _EVERYDAY | {"orders:write", "audit:read"},
    "member": _EVERYDAY,
    "integrator": _EVERYDAY | _WIRING,
}
_VENDOR_ROLES = frozenset({"owner", "admin", "integrator"})
_OPERATOR_ROLES = frozenset({"owner", "admin"})

ROLES: Final = tuple(_ROLE_PERMISSIONS)
ROLE_TITLES: Final[Mapping[str, str]] = {
    "owner": N_("Owner"),
    "admin": N_("Administrator"),
    "purchaser": N_("Purchaser"),
    "finance": N_("Finance"),
    "member": N_("Member"),
    "integrator": N_("Integrator"),
}
ROLE_SENTENCES: Final[Mapping[str, str]] = {
    "owner": N_("Everything, and the only one who can name other owners."),
    "admin": N_("Everything except naming owners."),
    "purchaser": N_("Chooses, orders and installs apps."),
    "finance": N_("Orders and pays, and reads the audit trail."),
    "member": N_("Uses the installed apps."),
    "integrator": N_("Connects apps, builds flows and repairs what failed."),
}


def permissions_of(
    role: str, *, is_vendor: bool = False, is_operator: bool = False
) -> frozenset[str]:
    """Names what a role may do; an unknown role may do nothing."""
    granted = _ROLE_PERMISSIONS.get(role, frozenset())
    if is_vendor and role in _VENDOR_ROLES:
        granted |= VENDOR_PERMISSIONS
    if is_operator and role in _OPERATOR_ROLES:
        granted |= OPERATOR_PERMISSIONS
    return granted


def may_assign(actor_role: str, role: str) -> bool:
    """Says whether someone with the first role may hand out, or take away, the second."""
    if role not in _ROLE_PERMISSIONS:
        return False
    return actor_role == "owner" or (actor_role == "admin" and role != "owner")

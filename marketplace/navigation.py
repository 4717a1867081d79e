"""What stands in the side bar: the house's doors, for whoever may open them."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from identity.principals import Principal
from kernel.errors import N_


@dataclass(frozen=True)
class Door:
    """One link; `permission` None is for everybody, `members` for whoever is signed in."""

    label: str
    href: str
    icon: str
    permission: str | None = None
    members_only: bool = True
    counts: str | None = None  # a key of the counts that pages give


@dataclass(frozen=True)
class Hall:
    """A group of doors."""

    label: str
    doors: tuple[Door, ...]


HALLS = (
    Hall(
        "",
        (
            Door(N_("Home"), "/", "home", members_only=False),
            Door(N_("My toolbox"), "/toolbox", "layout-grid", "installations:read"),
            Door(
                N_("Approvals"), "/approvals", "checklist", "approvals:decide", counts="approvals"
            ),
        ),
    ),
    Hall(
        N_("Choose tools"),
        (
            Door(N_("Apps"), "/apps", "compass", members_only=False),
            Door(N_("Bundles"), "/bundles", "packages", members_only=False),
            Door(N_("Compare"), "/compare", "scale", members_only=False),
        ),
    ),
    Hall(
        N_("Join tools"),
        (
            Door(N_("Flows"), "/flows", "route", "flows:read"),
            Door(N_("Runs"), "/runs", "activity", "runs:read", counts="parked_runs"),
            Door(N_("Recovery"), "/recovery", "heart", "runs:read", counts="incidents"),
            Door(N_("Data store"), "/stores", "folder", "stores:read"),
            Door(N_("Connections"), "/connections", "plug-connected", "connections:read"),
            Door(N_("Events"), "/events", "inbox", "events:read"),
            Door(N_("Sources"), "/sources", "login", "sources:read"),
            Door(N_("Spreadsheets"), "/sheets", "table", "sources:read"),
            Door(N_("Endpoints"), "/endpoints", "send", "endpoints:read"),
            Door(N_("Subscriber portals"), "/portal-links", "share", "endpoints:read"),
            Door(N_("Usage"), "/usage", "chart-bar", "sources:read"),
            Door(N_("Connectors"), "/connectors", "puzzle", "connections:read"),
            Door(N_("Event types"), "/settings/event-types", "tags", "event_types:read"),
        ),
    ),
    Hall(
        N_("Our organization"),
        (
            Door(N_("Installed apps"), "/installations", "apps", "installations:read"),
            Door(N_("Members"), "/settings/members", "users", "members:read"),
            Door(N_("API keys"), "/settings/api-keys", "key", "api_keys:read"),
            Door(N_("Audit trail"), "/settings/audit", "history", "audit:read"),
            Door(N_("Data keeping"), "/settings/data", "database", "events:read"),
            Door(N_("Settings"), "/settings", "settings", "organization:read"),
        ),
    ),
    Hall(
        N_("For vendors"),
        (
            Door(N_("My apps"), "/vendor", "building-store", "releases:submit"),
            Door(N_("My connectors"), "/vendor/connectors", "puzzle", "releases:submit"),
        ),
    ),
    Hall(
        N_("Running the hub"),
        (
            Door(N_("Health"), "/operator/health", "heartbeat", "hub:operate"),
            Door(N_("Organizations"), "/operator/tenants", "building", "hub:operate"),
            Door(N_("Reviews"), "/operator/review", "clipboard-check", "releases:review"),
            Door(N_("Connectors in review"), "/operator/connectors", "puzzle", "releases:review"),
            Door(N_("Vendors"), "/operator/vendors", "building-bank", "vendors:review"),
            Door(N_("Ready-made flows"), "/operator/templates", "test-pipe", "hub:operate"),
            Door(N_("Operators' acts"), "/operator/audit", "history", "hub:operate"),
        ),
    ),
)


def groups(
    who: Principal | None,
    path: str,
    translate: Callable[[str], str],
    *,
    existing: Collection[str] | None = None,
    counts: Mapping[str, int] | None = None,
) -> list[dict[str, Any]]:
    """Return the groups that base.html draws: only doors this person may open and that exist."""
    shown = []
    for hall in HALLS:
        items = [
            {
                "label": translate(door.label),
                "href": door.href,
                "icon": door.icon,
                "permission": door.permission,
                "active": is_here(door.href, path),
                "count": (counts or {}).get(door.counts or "") or None,
            }
            for door in hall.doors
            if _may_open(who, door) and (existing is None or door.href in existing)
        ]
        if items:
            shown.append({"label": translate(hall.label) if hall.label else "", "items": items})
    _keep_closest(shown)
    return shown


def _may_open(who: Principal | None, door: Door) -> bool:
    if not door.members_only:
        return True
    if who is None:
        return False
    return door.permission is None or who.may(door.permission)


def is_here(href: str, path: str) -> bool:
    """Tell whether a page belongs under a link."""
    return path == href or (href != "/" and path.startswith(href + "/"))


def _keep_closest(shown: list[dict[str, Any]]) -> None:
    """Mark one item at most: of /settings and /settings/audit the longer one is where we are."""
    active = [item for group in shown for item in group["items"] if item["active"]]
    for item in sorted(active, key=lambda one: len(one["href"]))[:-1]:
        item["active"] = False

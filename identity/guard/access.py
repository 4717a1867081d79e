"""What a route asks of whoever comes, marked on its view."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, overload

from identity import roles

View = TypeVar("View", bound=Callable[..., Any])


@dataclass(frozen=True)
class Access:
    """What a route asks of whoever comes."""

    kind: Literal["public", "person", "principal"]
    permissions: tuple[str, ...] = ()
    csrf: bool = True
    fresh: bool = False


def require(*permissions: str, fresh: bool = False) -> Callable[[View], View]:
    """Let in a member or API key that holds every one of these permissions.

    `fresh` asks people at a browser to have typed their password within the last half hour.
    """
    unknown = set(permissions) - set(roles.PERMISSIONS)
    if unknown:
        raise ValueError(f"unknown permissions: {', '.join(sorted(unknown))}")
    return lambda view: _mark(view, Access("principal", permissions, fresh=fresh))


def signed_in(view: View) -> View:
    """Let in any signed-in person, even one without a seat; `person()` says who it is."""
    return _mark(view, Access("person"))


@overload
def public(view: View) -> View: ...
@overload
def public(*, csrf: bool = True) -> Callable[[View], View]: ...
def public(view: Any = None, *, csrf: bool = True) -> Any:
    """Let in everybody.

    `@public` is for pages: its forms carry a CSRF token. `@public(csrf=False)` is for doors that
    machines use (intake, token endpoints); there the session cookie counts for nothing.
    """
    access = Access("public", csrf=csrf)
    if view is None:
        return lambda marked: _mark(marked, access)
    return _mark(view, access)


def _mark(view: View, access: Access) -> View:
    view.access = access  # type: ignore[attr-defined]
    return view


def access_of(view: Callable[..., Any]) -> Access | None:
    """Return a view's mark; None means that nobody may enter."""
    found = getattr(view, "access", None)
    return found if isinstance(found, Access) else None

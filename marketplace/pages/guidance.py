"""Pages that explain: help for everybody, and the entrance for developers."""

from typing import Any

from catalog import event_types
from connectors.engine import loader
from identity.guard import principal_or_none, public
from kernel.settings import settings
from marketplace.pages.drawing import blueprint, draw


@blueprint.get("/help")
@public
def explain() -> Any:
    """Answer what people ask in their first days."""
    return draw("help.html", is_member=principal_or_none() is not None)


@blueprint.get("/developers")
@public
def developers() -> Any:
    """Show integrators and vendors where things are, with commands that work as they stand."""
    return draw(
        "developers.html",
        base_url=settings().base_url,
        event_types_count=len(event_types.built_in()),
        connectors=list(loader.library().values()),
    )

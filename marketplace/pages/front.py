"""The first page: a shop front for visitors, my hub for members."""

from typing import Any

from catalog import slots
from identity.guard import principal_or_none, public
from identity.principals import Principal
from kernel.database import EVERY, reading
from marketplace import home, offers
from marketplace.pages.drawing import blueprint, draw


@blueprint.get("/")
@public
def first_page() -> Any:
    """Show the shop to visitors, and to members what needs them and what happened."""
    who = principal_or_none()
    return _shop() if who is None else _my_hub(who)


def _shop() -> Any:
    with reading(EVERY) as session:
        shown = home.front_bundles(session)
        installable = {b.key for b in shown if offers.bundle_is_installable(session, b.key)}
        figures = home.shop_figures(session)
    return draw(
        "shop.html",
        slots=slots.all_slots(),
        bundles=shown,
        installable=installable,
        figures=figures,
    )


def _my_hub(who: Principal) -> Any:
    organization_id = who.organization_id
    with reading(organization_id) as session:
        steps = home.first_steps(session, organization_id)
        sees_events, sees_runs = who.may("events:read"), who.may("runs:read")
        values: dict[str, Any] = {
            "needs": home.needs(session, who),
            # vendors and operators come here for other work than buying tools
            "first_steps": None if steps.is_over or _is_staff(who) else steps,
            "events": home.recent_events(session, organization_id) if sees_events else None,
            "runs": home.recent_runs(session, organization_id) if sees_runs else None,
            "flow_names": home.flow_names(session, organization_id) if sees_runs else {},
            "throughput": home.throughput(session, organization_id) if sees_events else None,
        }
    return draw("hub.html", **values)


def _is_staff(who: Principal) -> bool:
    return who.may("releases:submit") or who.may("releases:review")

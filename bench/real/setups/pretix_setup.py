"""Run by pretix's shell: an organizer, an event that sells tickets, and an API token."""

import json
from datetime import timedelta

from django.utils.timezone import now
from django_scopes import scopes_disabled
from pretix.base.models import Organizer, Team


def _set_up() -> None:
    with scopes_disabled():
        organizer = Organizer.objects.create(name="扬帆", slug="yangfan")
        event = organizer.events.create(
            name="扬帆展会",
            slug="expo-2026",
            currency="CNY",
            date_from=now() + timedelta(days=60),
            live=True,
            plugins="pretix.plugins.manualpayment",
        )
        ticket = event.items.create(name="展会门票", internal_name="TICKET", default_price="88.00")
        event.quotas.create(name="all", size=None).items.add(ticket)
        team = Team.objects.create(
            organizer=organizer,
            name="hub",
            all_events=True,
            all_event_permissions=True,
            all_organizer_permissions=True,
        )
        made = team.tokens.create(name="hub")
    print(json.dumps({"token": made.token, "item": ticket.id}))


_set_up()

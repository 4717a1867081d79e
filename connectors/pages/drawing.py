"""How the pages of connectors are drawn: problems in words, forms taken apart."""

import re
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, Response, make_response, redirect, render_template, request
from flask_babel import gettext

from connectors import ready_maps
from connectors.engine import loader
from connectors.engine.connector import Connector
from connectors.lookups.forms import lookup_of
from connectors.pages import drift_card
from kernel.errors import N_, FieldError, NotFound, Problem

blueprint = Blueprint("connectors_pages", "connectors", template_folder="templates")

_WHOLE = re.compile(r"-?[0-9]{1,15}")

# What a page says after a form was taken; the address carries only the short word.
DONE = {
    "created": N_("The connection is there."),
    "reconnected": N_("The new credentials are stored. Runs that waited for them go on now."),
    "renamed": N_("The name was changed."),
    "authorized": N_("The app agreed. Runs that waited for it go on now."),
    "works": N_("The app accepts the connection."),
    "connection_paused": N_("The connection is paused. Runs that need it wait; nothing is lost."),
    "connection_resumed": N_("The connection works again. Runs that waited go on now."),
    "end_noted": N_("Noted. You are told 14 days, 7 days and one day before."),
    "link_revoked": N_("The link was withdrawn and opens nothing any more."),
    "link_dropped": N_("The other account was dropped. Nothing has changed."),
    "revoked": N_("The connection is gone, and its secrets were deleted."),
    "given": N_("Assistants may do this from now on."),
    "webhook_ordered": N_("The hub sets the webhook up now. This takes a few seconds."),
    "webhook_looked": N_("The app is being asked. Load this page again in a moment."),
    "webhook_ended": N_("The webhook is being deleted at the app. What came in stays."),
    "drifts_seen": N_("What was noted is forgotten. What departs again is noted anew."),
    "poll_started": N_("The app is asked from now on. What is new comes in as events."),
    "poll_stopped": N_("The app is asked no more. What came in stays."),
    "stream_started": N_("The hub listens from now on. What the app sends comes in as events."),
    "stream_stopped": N_("The hub listens no more. What came in stays."),
    "sheet_arranged": N_("The columns are matched anew. Look at the preview."),
    "sheet_let_in": N_("The rows come in as events from now on."),
    "sheet_given_up": N_("The file was thrown away. Nothing came in."),
    "saved": N_("The draft was saved. What runs has not changed yet."),
    "published": N_("The new version runs from now on. Runs under way keep theirs."),
    "paused": N_("The flow is paused. Runs under way come to their end."),
    "resumed": N_("The flow is switched on again."),
    "restored": N_("The earlier version is now the draft. Look at it, then publish."),
    "deleted": N_("The flow was deleted. Its finished runs stay readable."),
    "retried": N_("The run is being tried again."),
    "replayed": N_("The run goes on."),
    "cancelled": N_("The run was cancelled."),
    "decided": N_("Your decision was taken. The flow goes on."),
    "in_test": N_("The draft runs in test now. What runs live did not change."),
    "stopped_in_test": N_("It runs no more in test. What runs live did not change."),
    "moved": N_("The connection was moved to the other environment."),
    "value_deleted": N_("The value was deleted."),
    "collection_deleted": N_("The collection was deleted with all its values."),
    "rest": N_("The other runs follow now."),
    "incident_replay": N_("A few runs go first. The others follow when those got through."),
    "incident_give_up": N_("The runs are being given up. What they did in apps stays."),
    "incident_stop": N_("No more runs go. Those that went are not called back."),
    "incident_done": N_("Marked as dealt with. It opens again when it happens again."),
    "incident_send_again": N_("A few events go first. The others follow when those arrived."),
    "incident_saved": N_("Saved."),
    "edition_uploaded": N_("The folder is there and is being checked."),
    "edition_submit": N_("Sent to review. It does not change any more."),
    "edition_delete": N_("The draft was thrown away."),
    "edition_deprecated": N_("Marked as outdated. Whoever uses it is offered a newer version."),
    "edition_withdrawn": N_("Withdrawn. What is connected goes on; nobody connects it anew."),
    "edition_published": N_("It is on offer."),
    "edition_decided": N_("Your decision was taken."),
    "edition_recalled": N_("Recalled. Connections by this version work no more."),
    "upgraded": N_("The connection and its flows have moved to the newer version."),
}


def draw(
    template: str,
    /,
    *,
    problem: Problem | None = None,
    no_longer: Collection[str] = (),
    **values: Any,
) -> Response:
    """Draw a page; a problem is told in words and gives the page its status.

    `no_longer` names what was said after a form and is not true any more.
    """
    told, errors = None, []
    if problem is not None:
        errors = [_in_words(one) for one in problem.errors]
        told = {
            "what": gettext(problem.title) % problem.params,
            "why": gettext(problem.detail) % problem.params if problem.detail else "",
        }
    word = request.args.get("done", "")
    done = DONE.get(word) if word not in no_longer else None
    page = render_template(
        f"connectors/{template}",
        told=told,
        errors=errors,
        done=gettext(done) if done else "",
        form=request.form,
        as_pairs=lambda choices: [(one, one) for one in choices],
        app_of=app_of,
        drift_card=drift_card.card,
        lookup_of=lookup_of,
        ready_map_of=ready_maps.for_step,
        **values,
    )
    return make_response(page, problem.status if problem else 200)


def _in_words(error: FieldError) -> FieldError:
    msgid = error["message"]
    return {"pointer": error["pointer"], "message": gettext(msgid)}


def go(path: str, **arguments: str) -> Response:
    """Send the browser on after a form was taken; 303 never repeats what was posted."""
    return make_response(redirect(f"{path}?{urlencode(arguments)}" if arguments else path, 303))


def typed(name: str, limit: int = 300) -> str:
    """Return what was typed into a field, without NUL and trimmed."""
    return request.form.get(name, "")[:limit].replace("\0", "").strip()


def typed_under(prefix: str, limit: int = 16_000) -> dict[str, str]:
    """Return the fields called `<prefix>.<name>`, by name, without the empty ones."""
    return {
        name.removeprefix(f"{prefix}."): value[:limit].strip()
        for name, value in request.form.items()
        if name.startswith(f"{prefix}.") and value.strip()
    }


def connector_or_none(key: str | None) -> Connector | None:
    """Return a connector, None when the library lost it."""
    try:
        return loader.find(key or "")
    except NotFound:
        return None


def app_of(key: str | None) -> dict[str, Any]:
    """Describe a connector for a picture: its title, icon and slot."""
    connector = connector_or_none(key)
    if connector is None:
        return {"title": {"zh": key or "?", "en": key or "?"}, "icon": None, "slot": None}
    slot = connector.slots[0].partition(".")[0] if connector.slots else None
    return {"title": connector.title, "icon": f"/connectors/{key}/icon.svg", "slot": slot}


def settings_from(connector: Connector, given: Mapping[str, str]) -> dict[str, Any]:
    """Turn a form's texts into the types that the connector's settings schema names."""
    properties: Mapping[str, Any] = connector.settings.get("properties", {})
    settings: dict[str, Any] = {}
    for name, text in given.items():
        kind = properties.get(name, {}).get("type")
        if kind == "integer" and _WHOLE.fullmatch(text):
            settings[name] = int(text)
        elif kind == "boolean":
            settings[name] = text == "1"
        else:
            settings[name] = text
    return settings

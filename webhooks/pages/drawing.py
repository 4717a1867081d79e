"""How the pages of webhooks are drawn: with what went wrong in the reader's words."""

from collections.abc import Iterable
from typing import Any

from flask import Blueprint, Response, make_response, redirect, render_template, request
from flask_babel import gettext

from kernel.errors import N_, FieldError, Problem

blueprint = Blueprint("webhooks_pages", "webhooks", template_folder="templates")

# What a delivery's or attempt's short word means, in a sentence people understand.
PROBLEMS = {
    "status": N_("The target answered, but did not say that it took the event."),
    "timeout": N_("The target did not answer in time."),
    "connect": N_("The target could not be reached."),
    "dns": N_("The target's name could not be found."),
    "tls": N_("The target's certificate is not in order."),
    "protocol": N_("The target answered in a way that is not HTTP."),
    "too_large": N_("The target's answer was too large."),
    "refused_address": N_("The address leads into a private network and is not called."),
    "invalid_request": N_("The address or a header is not written correctly."),
    "held_back": N_("Not tried yet, because the target did not answer just before."),
    "exhausted": N_("Ten tries over three days failed. Repair the target, then send it again."),
    "gone": N_("The target said that it is gone for good."),
    "endpoint_disabled": N_("The endpoint was switched off before this was delivered."),
    "condition_failed": N_(
        "The endpoint's condition could not be computed for this event, so it was not sent."
    ),
    "replay_cancelled": N_("The bulk replay it belonged to was cancelled before it was sent."),
    "endpoint_deleted": N_("The endpoint was deleted before this was delivered."),
    "interrupted": N_("Sending was interrupted several times."),
}
REASONS = {
    "gone": N_("The target answered “410 gone”, so nothing more is sent to it."),
    "failing": N_("It failed for five days without one success."),
    "by_hand": N_("Somebody of your organization switched it off."),
}
# Of a form without the tick that says: I have read it.
NOT_CONFIRMED: FieldError = {
    "pointer": "/confirmed",
    "message": N_("Tick the box to say that you want this"),
}
# What a query argument `done` says after a redirect.
DONE = {
    "saved": N_("Saved."),
    "paused": N_("Paused. What arrives meanwhile is kept."),
    "source_paused": N_("Paused. Senders are told to try again later."),
    "resumed": N_("Running again."),
    "probed": N_("One delivery is being sent to see whether the target is back."),
    "disabled": N_("Switched off."),
    "endpoint_deleted": N_("The endpoint is deleted. Nothing more is sent to it."),
    "logo_saved": N_("Saved. Your subscribers see the logo from now on."),
    "logo_removed": N_("Removed. Your subscribers see the hub's logo from now on."),
    "replayed": N_("The event is on its way again."),
    "accepted": N_("The event fits now and is on its way."),
    "still_rejected": N_("The event still does not fit its type."),
    "resent": N_("It is being sent again."),
    "cancelled": N_("It will not be sent any more."),
    "certificate_saved": N_("Saved. The certificate is shown from the next message on."),
    "certificate_removed": N_("Removed. Messages go out without a client certificate."),
    "header_saved": N_("Saved. The header goes along from the next message on."),
    "header_removed": N_("Removed. The header is sent no more."),
    "recovered": N_("What was missed is being sent."),
    "bulk_started": N_("Started. Three go first; the others follow when those arrived."),
    "bulk_cancelled": N_("Cancelled. Nothing more of it is sent."),
    "cleared": N_("Cleared. What is refused from now on shows up here."),
    "link_revoked": N_("The link has ended. The subscriber's endpoints go on getting events."),
    "rule_removed": N_("Removed. The next closest rule holds from now on."),
    "keeping_asked": N_("It begins as soon as a worker is free, mostly within a few seconds."),
    "span_replayed": N_("The events are on their way again."),
    "span_replayed_partly": N_("The first events are on their way again. Repeat for the rest."),
    "export_asked": N_("The file is being written."),
    "export_cancelled": N_("The export was stopped."),
    "erasure_asked": N_("It begins as soon as a worker is free. This page is the receipt."),
    "values_renewed": N_("Saved. The values before go on working for 24 hours."),
    "moved": N_("The source has a new address; the old one no longer works."),
}


def draw(template: str, *, problem: Problem | None = None, **values: Any) -> Response:
    """Draw a page of webhooks; a problem is told in words and gives the page its status."""
    told = None
    if problem is not None:
        told = {
            "what": in_words(problem.title, problem),
            "why": in_words(problem.detail or "", problem),
        }
    page = render_template(
        f"webhooks/{template}",
        errors=translated(problem.errors) if problem else [],
        told=told,
        form=request.form,
        problems=PROBLEMS,
        done=DONE.get(request.args.get("done", "")),
        **values,
    )
    return make_response(page, problem.status if problem else 200)


def in_words(msgid: str, problem: Problem) -> str:
    """Translate a problem's sentence and fill its places."""
    if not msgid:
        return ""
    text: str = gettext(msgid)
    return text % problem.params if problem.params else text


def translated(errors: Iterable[FieldError]) -> list[FieldError]:
    """Translate what is said about single values, as far as it is one of our sentences."""
    said = [(error["pointer"], error["message"]) for error in errors]
    return [{"pointer": pointer, "message": gettext(msgid)} for pointer, msgid in said]


def go(path: str, done: str = "saved") -> Response:
    """Send the browser on, after a form was taken with a word on it; 303 repeats no post."""
    return make_response(redirect(f"{path}?done={done}" if done else path, 303))


def typed(name: str, limit: int = 300, *, keep_end: bool = False) -> str:
    """Return what was typed into a field, without NUL and cut where nobody types by hand."""
    text = request.form.get(name, "")[:limit].replace("\0", "").lstrip()
    return text if keep_end else text.rstrip()


def wanted_types(text: str) -> list[str]:
    """Return the event types in a text, one a line or with commas between them."""
    return text.replace(",", "\n").split()

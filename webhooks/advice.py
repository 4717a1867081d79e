"""Advice: what to do about what was refused at a source, by its code, in plain words."""

from collections.abc import Mapping

from kernel.errors import N_

_LATER = N_(
    "The sender sends too much at once. Most senders try again by themselves; else slow it down, "
    "or ask the people who run this hub for a larger quota."
)
_SHAPE = N_(
    "What arrives is not JSON as it should be. Look at what the sender really sends, best with its "
    "own test button, and choose JSON there."
)
_SIZE = N_("Ask the sender to send less at once, or one event at a time.")

ADVICE: Mapping[str, str] = {
    "signature_mismatch": N_(
        "The secret does not match: show the secret here, compare it with the one in the sending "
        "app, and copy it over once more, whole and without blanks. If something between the two "
        "changes the content, like a proxy that reformats it, the signature breaks too."
    ),
    "signature_missing": N_(
        "The sender does not sign, or uses another header. Switch signing on in the sending app, "
        "or open a source whose proof is the one this app knows."
    ),
    "signature_stale": N_(
        "The sender's clock is wrong, or an old message is being sent again. Set the clock of the"
        " sending machine; a message that waited too long must be signed anew."
    ),
    "scheme_unknown": N_(
        "This source's way of proof is not set up completely. Open a new source and enter the "
        "sending app's way of signing."
    ),
    "signature_reused": N_(
        "A word that is good for one message came with another one. Somebody may have listened in "
        "and sent something of their own; nothing of it was stored. Renew the secret when this "
        "happens again."
    ),
    "recipe_broken": N_(
        "A value of this source cannot be used, or its recipe is not right. Look below at which "
        "step it was, and enter the value anew, copied whole from the sending app."
    ),
    "source_paused": N_("This source is paused. Resume it when events shall come in again."),
    "cut_off": N_(
        "The connection broke before everything had arrived. If it happens often, look at the "
        "network or the proxy on the sender's side."
    ),
    "empty": N_("The sender sends nothing. Choose in the sending app what it shall send."),
    "too_large": _SIZE,
    "too_many_items": _SIZE,
    "batch_over_quota": _SIZE,
    "content_type": N_("Set the content type application/json in the sending app."),
    "content_encoding": N_("Switch compression off in the sending app, or choose gzip."),
    "charset": N_("Set the sending app to UTF-8."),
    "not_utf8": N_("Set the sending app to UTF-8."),
    "cloudevents_header": N_(
        "The CloudEvents headers are not right. Update the sender's library, or send the event as"
        " JSON."
    ),
    "organization_minute_quota": _LATER,
    "organization_day_quota": _LATER,
    "source_minute_quota": N_(
        "This source may send less than the sender sends. Raise its quota below, or slow the "
        "sender down."
    ),
    "source_day_quota": N_(
        "This source may send less than the sender sends. Raise its quota below, or slow the "
        "sender down."
    ),
    "backlog_full": N_(
        "Too much waits already. Look for endpoints and flows that do not move on, and repair or "
        "pause them."
    ),
}


def on(code: str) -> str:
    """Return what to do about a code, as an English message id."""
    return ADVICE.get(code, _SHAPE)

"""Causes: what makes two failures one trouble, and in words who ends it and what is safe."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from connectors import runs
from kernel.errors import N_

# A word of the app's for what is wrong, such as UNKNOWN_SKU, or a number it calls a code.
_CODE = re.compile(
    r"\b(?P<word>[A-Z]{2,}(?:_[A-Z]+)+)\b"
    r"|(?i:\b(?:err|error)?_?code[\"']?\s*[:=]\s*[\"']?(?P<number>-?\d{1,9})\b)"
)

# Who has to act, in words; the keys are what the API says.
ACTORS: Mapping[str, str] = {
    "signer": N_("Whoever may sign in to the app"),
    "author": N_("Whoever looks after the flow, or knows the record"),
    "looker": N_("Somebody who can look into the app"),
    "vendor": N_("The app's vendor; you only need to wait"),
    "nobody": N_("Nobody: it is tried again by itself"),
    "receiver": N_("Whoever looks after the address that the hub sends to"),
    "sender": N_("Whoever set up the app that sends"),
    "operator": N_("The hub's operator"),
}
_OF_RUNS = {
    "data": "author", "auth": "signer", "config": "author", "down": "vendor",
    "limit": "vendor", "unknown": "looker", "quarantined": "operator",
}  # fmt: skip

# What a cause of a given kind is called, when no sentence came along with it.
TITLES: Mapping[str, str] = {
    "data": N_("The app does not take what is sent"),
    "auth": N_("The app refuses the sign-in"),
    "config": N_("Something is set up wrongly"),
    "down": N_("The app does not answer"),
    "limit": N_("The app asks for fewer calls"),
    "unknown": N_("Nobody knows whether the app did it"),
    "quarantined": N_("It was set aside, because it ended the program that ran it"),
    "delivery": N_("The receiving address does not take what is sent"),
    "refusal": N_("What arrives at a source is turned away"),
}
_RETRY_SAFE = N_("Everything is kept. Repeating is safe, and done with growing pauses.")
_RETRY_TODO = N_("Nothing has to be done. What does not get through in the end is shown anew.")
_DELIVERY_SAFE = N_("The events are kept here; nothing of them is lost.")
_DELIVERY_TODO = N_("Repair the receiving side, then send again: a few first, the rest after them.")
_REFUSAL_SAFE = N_(
    "Nothing of it was stored. Most senders try again; what they give up has to be sent anew."
)
_REFUSAL_TODO = N_("Look at the source: it shows what was wrong with the last requests.")


def fingerprint(*parts: str | None) -> str:
    """Return the digest by which the same trouble is known again."""
    mixed = "\x1f".join("" if part is None else part for part in parts)
    return hashlib.sha256(mixed.encode()).hexdigest()[:40]


def code_of(status: int | None, say: Mapping[str, Any] | None, detail: str | None) -> str:
    """Return what an app answered without what is different for each record.

    The rule of the manifest that read the answer (by its sentence), the HTTP status, and the
    app's own code when its words hold one.
    """
    found = _CODE.search(detail or "")
    word = (found["word"] or found["number"]).upper() if found else ""
    sentence = hashlib.sha256(str((say or {}).get("en", "")).encode()).hexdigest()[:6]
    return " ".join(part for part in (str(status or ""), word[:40], f"#{sentence}") if part)


def shown(code: str) -> str:
    """Return the part of a code that tells people something."""
    return " ".join(part for part in code.split() if not part.startswith("#"))


def actor_of(kind: str, cause: str) -> str:
    """Return who has to act, by its key in ACTORS."""
    if kind == "run":
        return _OF_RUNS.get(cause, "author")
    return {"retry": "nobody", "delivery": "receiver"}.get(kind, "sender")


def advice_on(kind: str, cause: str) -> tuple[str, str]:
    """Return what is safe and what to do, as English message ids."""
    if kind == "run":
        safe, _, todo = runs.EXPLANATIONS.get(cause, runs.EXPLANATIONS["config"])
        return safe, todo
    return {
        "retry": (_RETRY_SAFE, _RETRY_TODO),
        "delivery": (_DELIVERY_SAFE, _DELIVERY_TODO),
    }.get(kind, (_REFUSAL_SAFE, _REFUSAL_TODO))


def title_of(kind: str, cause: str) -> str:
    """Return what the trouble is called, as an English message id."""
    return TITLES[kind] if kind in ("delivery", "refusal") else TITLES.get(cause, TITLES["config"])

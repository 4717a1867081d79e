"""Offers: senders whose way of proof is known, so that people only fill in what is theirs.

Some stand in webhooks/data/senders.yaml; packages above add their own through MORE.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from kernel.errors import N_, Invalid
from webhooks import fillings

_FILE = Path(__file__).parent / "data" / "senders.yaml"


@dataclass(frozen=True, slots=True)
class Offer:
    """A sender: what a source for it is opened with."""

    key: str
    title: Mapping[str, str]
    text: Mapping[str, str]
    scheme: str
    scheme_options: Mapping[str, Any]
    rules: Mapping[str, Any]
    connector_key: str | None = None
    trigger_key: str | None = None
    confidence: str = "documented"

    @property
    def asks(self) -> list[dict[str, Any]]:
        """What has to be filled in."""
        return fillings.asked(self.scheme_options)


# More of them, filled by the composition root.
MORE: list[Callable[[], Sequence[Offer]]] = []


@lru_cache(maxsize=1)
def _own() -> tuple[Offer, ...]:
    found = yaml.safe_load(_FILE.read_text("utf-8"))
    return tuple(
        Offer(
            key=key,
            title=one["title"],
            text=one["text"],
            scheme="recipe",
            scheme_options=one["options"],
            rules=one.get("rules", {"from": "envelope"}),
            confidence=one.get("confidence", "documented"),
        )
        for key, one in found.items()
    )


def listing() -> list[Offer]:
    """Return every known sender, the apps' own first and instead of ours with the same key."""
    found = [offer for more in MORE for offer in more()]
    keys = {offer.key for offer in found}
    return [*found, *(offer for offer in _own() if offer.key not in keys)]


def find(key: str) -> Offer:
    """Return the offer; raises Invalid for one that is not there."""
    for offer in listing():
        if offer.key == key:
            return offer
    message = N_("There is no such sender")
    raise Invalid(errors=[{"pointer": "/offer", "message": message}])


def values_of(key: str) -> dict[str, Any]:
    """Return what `sources.create` opens a source for this sender with."""
    offer = find(key)
    return {
        "scheme": offer.scheme,
        "scheme_options": offer.scheme_options,
        "rules": offer.rules,
        "connector_key": offer.connector_key,
        "trigger_key": offer.trigger_key,
    }

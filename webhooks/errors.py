"""The refusals that only events in and out know."""

from collections.abc import Mapping, Sequence

from kernel.errors import (
    N_,
    Conflict,
    FieldError,
    Invalid,
    NotFound,
    TooLarge,
    TooMany,
    Unauthenticated,
)
from kernel.web import localized


class BadSignature(Unauthenticated):
    """What came in is not signed by who we expect, or too long ago."""

    code = "signature_mismatch"
    default_title = N_("The signature does not fit")


class RecipeInvalid(Invalid):
    """A recipe, or what was filled in for one, is not right; said in both languages."""

    code = "recipe_invalid"

    def __init__(self, found: Sequence[tuple[str, Mapping[str, str]]], pointer: str) -> None:
        """Take findings (pointer, {zh, en}) below a pointer."""
        self.found = [(f"{pointer}{place}", say) for place, say in found]
        super().__init__()

    @property
    def errors(self) -> list[FieldError]:
        """Say where and why in the reader's language."""
        return [{"pointer": place, "message": localized(say)} for place, say in self.found]

    @errors.setter
    def errors(self, value: list[FieldError]) -> None:
        """Take no other words: the findings hold them in both languages."""


class UnknownSource(NotFound):
    """No source has this address."""

    code = "unknown_source"
    default_title = N_("There is no source at this address")


class Archived(NotFound):
    """The event has left the live list; the archive may still have it."""

    code = "archived"
    default_title = N_("This event is no longer in the live list; look for it in the archive")


class SourcePaused(Conflict):
    """The source exists and takes nothing in at present."""

    code = "source_paused"
    default_title = N_("This source is paused and takes nothing in; nothing was stored")


class EventsRejected(Invalid):
    """Every event of a request breaks its type's rules; all are kept for the owner to look at."""

    code = "events_rejected"
    default_title = N_("The events do not fit their types; they are kept for repair, not passed on")


class OverQuota(TooMany):
    """More events than a quota lets through; nothing of the request was stored."""

    code = "over_quota"
    default_title = N_("More events than the quota lets through; nothing of this was stored")

    @classmethod
    def of(cls, whose: str, per: str, *, seconds: int, **params: int) -> "OverQuota":
        """Say which quota it was, what is used, and when there is room again."""
        problem = cls(
            detail=_OVER[whose, per], code=f"{whose}_{per}_quota", retry_after_seconds=seconds
        )
        problem.params = {"seconds": seconds, **params}
        return problem


_OVER = {
    ("source", "minute"): N_(
        "This source may send %(limit)s events a minute, and %(burst)s at once; %(used)s of them "
        "are used. There is room for this in %(seconds)s seconds; send it again then"
    ),
    ("source", "day"): N_(
        "This source may send %(limit)s events a day; %(used)s are used. "
        "The next day begins in %(seconds)s seconds; send it again then"
    ),
    ("organization", "minute"): N_(
        "The organization may send %(limit)s events a minute, and %(burst)s at once; %(used)s of "
        "them are used. There is room for this in %(seconds)s seconds; send it again then"
    ),
    ("organization", "day"): N_(
        "The organization may send %(limit)s events a day; %(used)s are used. "
        "The next day begins in %(seconds)s seconds; send it again then"
    ),
}


class BatchTooLarge(TooLarge):
    """An array that is larger than a quota ever lets through at once."""

    code = "batch_over_quota"
    default_title = N_("The array holds more events than the quota ever lets through at once")

    @classmethod
    def of(cls, whose: str, *, count: int, limit: int) -> "BatchTooLarge":
        """Say whose quota it was; waiting would not help."""
        words = {
            "source": N_("%(count)s events, and this source may send %(limit)s at once; split it"),
            "organization": N_(
                "%(count)s events, and the organization may send %(limit)s at once; split it"
            ),
        }[whose]
        return cls(detail=words, count=count, limit=limit)


class BacklogFull(TooMany):
    """So much of the organization's waits that nothing more is taken in."""

    code = "backlog_full"
    default_title = N_("Too much of this organization's is waiting; nothing of this was stored")

    def __init__(self, *, waiting: int, limit: int, retry_after_seconds: int) -> None:
        """Say how much waits and what its owner can do."""
        super().__init__(
            detail=N_(
                "%(waiting)s events, deliveries and runs wait, and %(limit)s may. Send it again "
                "later; the owner can repair or pause endpoints and flows that do not move on"
            ),
            waiting=waiting,
            limit=limit,
            retry_after_seconds=retry_after_seconds,
        )

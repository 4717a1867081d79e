"""The refusals that only events in and out know."""

from kernel.errors import N_, Conflict, Invalid, NotFound, Unauthenticated


class BadSignature(Unauthenticated):
    """What came in is not signed by who we expect, or too long ago."""

    code = "signature_mismatch"
    default_title = N_("The signature does not fit")


class UnknownSource(NotFound):
    """No source has this address."""

    code = "unknown_source"
    default_title = N_("There is no source at this address")


class SourcePaused(Conflict):
    """The source exists and takes nothing in at present."""

    code = "source_paused"
    default_title = N_("This source is paused and takes nothing in; nothing was stored")


class EventsRejected(Invalid):
    """Every event of a request breaks its type's rules; all are kept for the owner to look at."""

    code = "events_rejected"
    default_title = N_("The events do not fit their types; they are kept for repair, not passed on")

"""The tree of problems: every refusal has a status, a code and words a person understands."""

from collections.abc import Sequence
from typing import Any, TypedDict


def N_(msgid: str) -> str:  # noqa: N802 - gettext's name for "extract, translate later"
    """Mark a message for translation and return it unchanged."""
    return msgid


class FieldError(TypedDict):
    """One thing that is wrong, and where: a JSON pointer into what was sent."""

    pointer: str
    message: str


class Problem(Exception):  # noqa: N818 - RFC 9457 calls it a problem
    """Something the caller must hear about; `title` and `detail` are English message ids."""

    status = 500
    code = "internal"
    default_title = N_("Something went wrong on our side")
    default_safe = ""

    def __init__(
        self,
        title: str | None = None,
        detail: str | None = None,
        *,
        code: str | None = None,
        errors: Sequence[FieldError] = (),
        retry_after_seconds: int | None = None,
        **params: Any,
    ) -> None:
        """Hold the message ids and the values that fill their `%(name)s` places."""
        self.title = title or self.default_title
        self.detail = detail
        self.code = code or type(self).code
        self.errors = list(errors)
        self.retry_after_seconds = retry_after_seconds
        self.params = params
        super().__init__(self.plain())

    def plain(self) -> str:
        """Return the English words, for logs and the command line."""
        text = self.title if not self.detail else f"{self.title}: {self.detail}"
        return text % self.params if self.params else text


class Malformed(Problem):
    """What was sent cannot be read at all."""

    status, code = 400, "malformed"
    default_title = N_("What was sent cannot be read")


class Unauthenticated(Problem):
    """We do not know who is asking."""

    status, code = 401, "unauthenticated"
    default_title = N_("Please sign in first")


class Forbidden(Problem):
    """We know who is asking, and they may not."""

    status, code = 403, "forbidden"
    default_title = N_("You may not do this")


class NotFound(Problem):
    """It does not exist, or it belongs to somebody else: both look the same from outside."""

    status, code = 404, "not_found"
    default_title = N_("We could not find that")


class Conflict(Problem):
    """It clashes with what is already there."""

    status, code = 409, "conflict"
    default_title = N_("This clashes with what is already there")


class TooLarge(Problem):
    """It is bigger than a stated limit."""

    status, code = 413, "too_large"
    default_title = N_("What was sent is too large")


class UnsupportedMedia(Problem):
    """The content type or encoding is not one we read."""

    status, code = 415, "unsupported_media"
    default_title = N_("We do not read this kind of content")


class Invalid(Problem):
    """It can be read, but breaks a rule; `errors` says which and where."""

    status, code = 422, "invalid"
    default_title = N_("Some values are not right")


class TooMany(Problem):
    """Too much in too short a time."""

    status, code = 429, "too_many"
    default_title = N_("Too many tries, please wait a moment")


class Unavailable(Problem):
    """We cannot take it right now; nothing was stored; trying again is safe."""

    status, code = 503, "unavailable"
    default_title = N_("The hub cannot take this right now; nothing was stored, please try again")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Always carry a Retry-After."""
        kwargs.setdefault("retry_after_seconds", 5)
        super().__init__(*args, **kwargs)

"""What connections, flows and runs refuse, and why."""

from collections.abc import Iterable, Mapping
from typing import Any

from kernel.errors import N_, Conflict, FieldError, Invalid
from kernel.web import localized

Say = Mapping[str, str]


class InUse(Conflict):
    """Something still needs it."""

    code = "in_use"
    default_title = N_("It is still in use")


class NotNow(Conflict):
    """The thing is in a state in which this cannot be done."""

    code = "not_now"
    default_title = N_("This cannot be done right now")


class Unfit(Invalid):
    """Values or a document break rules; `findings` say where and why in both languages."""

    code = "unfit"

    def __init__(
        self, findings: Iterable[Mapping[str, Any]], title: str | None = None, **params: Any
    ) -> None:
        """Take findings {pointer, say: {zh, en}}."""
        self.findings = [dict(one) for one in findings]
        super().__init__(title, **params)

    @property
    def errors(self) -> list[FieldError]:
        """Say where and why in the reader's language."""
        return [
            {"pointer": one["pointer"], "message": localized(one["say"])} for one in self.findings
        ]

    @errors.setter
    def errors(self, value: list[FieldError]) -> None:
        """Take no other words: the findings hold them in both languages."""


def finding(pointer: str, zh: str, en: str) -> dict[str, Any]:
    """Return one finding: a JSON pointer and the sentence in both languages."""
    return {"pointer": pointer, "say": {"zh": zh, "en": en}}

"""What passes through a lab vendor: a call, its answer, and a refusal."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from kernel import documents


@dataclass(frozen=True, slots=True)
class Call:
    """One request as the vendor sees it."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    raw: bytes
    places: Mapping[str, str]

    @property
    def body(self) -> Any:
        """Return the JSON body, or a form as an object of texts; raises Problem."""
        if self.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            return dict(parse_qsl(self.raw.decode(), keep_blank_values=True))
        return documents.parse(self.raw) if self.raw else None


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back."""

    status: int
    body: Any
    headers: Mapping[str, str]


class Refused(Exception):  # noqa: N818 - an answer, not a fault
    """A request that is answered with an error and not carried out."""

    def __init__(self, answer: Answer, why: str) -> None:
        """Keep the answer and a few words for the ledger."""
        super().__init__(why)
        self.answer, self.why = answer, why


def refusal(status: int, code: str, message: str, **headers: str) -> Refused:
    """Return a plain refusal."""
    return Refused(Answer(status, {"code": code, "message": message}, headers), message)

"""Landings: what became of the calls of a round."""

from dataclasses import dataclass

from connectors.engine.answers import Answer
from connectors.stepping import Call, Say, hold, take_answer
from kernel import http


@dataclass(frozen=True)
class Landing:
    """What became of a call: an answer, a reason why it could not be made, or neither (unsent)."""

    call: Call
    answer: Answer | None = None
    outcome: http.Response | http.Failure | None = None
    secrets: tuple[str, ...] = ()
    cause: str | None = None
    say: Say | None = None
    detail: str | None = None
    wait_seconds: float | None = None  # it was not sent: it waits so long, which is no attempt

    def apply(self) -> None:
        """Move the call's run on."""
        if self.answer is not None and self.outcome is not None:
            take_answer(self.call, self.answer, self.outcome, self.secrets)
        elif self.wait_seconds is not None and self.cause is not None and self.say is not None:
            hold(self.call, self.cause, self.say, self.wait_seconds, self.secrets)
        elif self.cause is not None and self.say is not None:
            self.call.moving.park(self.cause, self.say, self.detail)
        else:
            self.call.moving.give_back()

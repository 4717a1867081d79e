"""Outcomes: what one answer, or the lack of one, means for a delivery and says about its target."""

from datetime import datetime

from kernel.http import Failure, Response
from webhooks import retry
from webhooks.circuits import Answer

# What a target that is there may ask for a pause with.
_ASKS = {429, 503}


def failure_of(result: Response | Failure) -> str | None:
    """Name what went wrong: a failure's kind, "status" for an answer outside 2xx, else None."""
    if isinstance(result, Failure):
        return result.kind
    return None if 200 <= result.status < 300 else "status"


def outcome_of(result: Response | Failure) -> retry.Outcome:
    """Read what the retry table needs out of a result."""
    if isinstance(result, Failure):
        return retry.Outcome(failure=result.kind)
    asked = next((v for k, v in result.headers.items() if k.lower() == "retry-after"), None)
    return retry.Outcome(status=result.status, retry_after=asked)


def answer_of(delivery_id: str, result: Response | Failure, now: datetime) -> Answer:
    """Read out of a try what it says about the target."""
    is_good = failure_of(result) is None
    is_blamed = not is_good and not (isinstance(result, Failure) and result.is_ours)
    status = result.status if isinstance(result, Response) else 0
    asked = 0.0
    if status in _ASKS:
        asked = retry.retry_after_seconds(outcome_of(result).retry_after, now)
    return Answer(
        delivery_id=delivery_id,
        is_good=is_good,
        is_blamed=is_blamed,
        is_down=is_blamed and (status == 0 or status >= 500 or status == 429),
        is_gone=status == 410,
        asked_seconds=asked,
    )

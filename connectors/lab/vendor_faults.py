"""The faults a lab vendor can be told to have, and the refusals that show them."""

import time
from collections.abc import Mapping
from typing import Any

from connectors.engine.fixtures import Fixture
from connectors.lab import vendor_answers
from connectors.lab.vendor_calls import Answer, Refused, refusal

MODES = (
    *("ok", "down", "reject", "slow", "unauthorized", "rate_limited", "lost", "lossy"),
    *("error_in_ok", "malformed", "expire_early", "doubled", "shuffled"),
)
PAGE = b"<!doctype html><title>Sorry</title><p>Please come back later"
HTML = {"Content-Type": "text/html; charset=utf-8"}
MAX_SLOW_SECONDS = 120


def raise_for(stated: Mapping[str, Any], cases: Mapping[str, Fixture], kind: str) -> None:
    """Wait or raise Refused as the fault that is switched on asks for; `kind` is the route's."""
    mode, seconds = stated.get("mode", "ok"), stated.get("seconds", 5)
    if mode == "slow":
        time.sleep(min(float(seconds), MAX_SLOW_SECONDS))
    elif mode == "down":
        raise recorded_refusal(cases.get("down"), 503, "DOWN", "Maintenance")
    elif mode == "unauthorized":
        raise recorded_refusal(_read_as(cases, "auth"), 401, "UNAUTHORIZED", "Refused")
    elif mode == "rate_limited":
        no = recorded_refusal(_read_as(cases, "limit"), 429, "TOO_MANY", "Slow down")
        wait = {**no.answer.headers, "Retry-After": str(int(seconds))}
        raise Refused(Answer(no.answer.status, no.answer.body, wait), no.why)
    elif mode == "malformed":
        raise Refused(Answer(200, PAGE, HTML), "A page instead of JSON")
    elif mode == "error_in_ok" and kind == "action":
        raise _error_in_ok(cases)
    elif mode == "reject" and kind == "action":
        fixture = vendor_answers.rejecting(cases, stated.get("case"))
        raise recorded_refusal(fixture, 422, "REJECTED", "The content is refused")


def recorded_refusal(fixture: Any, status: int, code: str, message: str) -> Refused:
    """Return a refusal with the recorded answer, else a plain one."""
    stand_in = {"code": code, "message": message}
    found, headers, body = vendor_answers.response(fixture, status, stand_in)
    return Refused(Answer(found, body, headers), message)


def _read_as(cases: Mapping[str, Fixture], cause: str) -> Fixture | None:
    """Return the recorded answer that is read as a cause, whatever its file is called."""
    for fixture in cases.values():
        if fixture.value.get("answer", {}).get("cause") == cause:
            return fixture
    return None


def _error_in_ok(cases: Mapping[str, Fixture]) -> Refused:
    for fixture in cases.values():
        answer = fixture.value.get("answer", {})
        status = fixture.value.get("response", {}).get("status", 200)
        if status == 200 and answer.get("kind", "ok") != "ok":
            return recorded_refusal(fixture, 200, "", "An error inside a good answer")
    return refusal(422, "NONE", "No fixture shows an error inside a good answer")

"""What a fault should not have caused."""

from collections.abc import Iterator
from typing import Any

from bench.faults import outages, slow, storms
from bench.faults.stage import Verdict

_UNAVAILABLE = {"503"}


def judge(name: str, one: Verdict) -> Iterator[str]:
    """Say what a fault should not have caused."""
    if one.changed:
        yield f"{one.changed} copies differ from what was sent first"
    if one.twice:
        yield f"{one.twice} orders were processed twice by a receiver that knows ids"
    if not one.accepted:
        yield "nothing was accepted"
    yield from _outages(one.more)
    yield from _others(one.more)
    if name.endswith(" deploys"):
        for process, seconds in one.more["slowest_exit_s"].items():
            if seconds > storms.EXIT_SECONDS:
                yield f"{process} took {seconds} s to end, or had to be killed"
        if one.duplicate_sends:
            yield f"{one.duplicate_sends} were sent twice although nothing crashed"


def _outages(more: dict[str, Any]) -> Iterator[str]:
    if set(more.get("answers_while_away", ())) - _UNAVAILABLE - {"none"}:
        yield f"answered {more['answers_while_away']} while the database was away"
    if set(more.get("answers_while_full", ())) - _UNAVAILABLE:
        yield f"answered {more['answers_while_full']} while the disk was full"
    if more.get("was_full") is False:
        yield "the disk did not run full"
    if more.get("retry_after") is False:
        yield "a 503 said not when to try again"
    if more.get("recovery_s", 0) > outages.RECOVER_SECONDS:
        yield f"recovered after {more['recovery_s']} s"


def _others(more: dict[str, Any]) -> Iterator[str]:
    if "p99_with_ms" in more and slow.is_held_up(more):
        yield f"a healthy target waited: {more['p99_without_ms']} → {more['p99_with_ms']} ms"
    for place, found in more.get("poison", {}).items():
        if not found["set_aside"]:
            yield f"poison in {place} was not set aside in {found['after_s']} s"
    for refusal in more.get("refusals", ()):
        if refusal["status"] != 401 or not refusal.get("detail"):
            yield f"a signature from another hour was answered {refusal}"
    if more.get("not_met"):
        yield f"{more['not_met']} boundaries were not met"

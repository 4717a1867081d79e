"""Try to lose an event: `make faults KILLS=n`. The last line is one JSON line.

The exit code is not 0 when anything was lost, changed, refused, or processed twice by a receiver
that knows ids, when an address led inside, or when something asked for could not be tried.
"""

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.faults import (
    boundaries,
    clocks,
    disks,
    hostile,
    networks,
    outages,
    poisons,
    slow,
    ssrf,
    storms,
)
from bench.faults.judging import judge
from bench.faults.private_servers import ServiceMissingError
from bench.faults.stage import EMBEDDED, SCALED, Private, Stage, Verdict, private_servers

USUAL_KILLS = 40
PARTS = (EMBEDDED, SCALED, "ssrf", "hostile")
Fault = Callable[[], dict[str, Any] | None]


def main() -> int:
    """Run what was asked for and print what was found."""
    # whoever ends this ends what it started: an exit unwinds, a bare signal would not
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = _options()
    started = time.monotonic()
    verdicts: dict[str, Verdict] = {}
    figures: dict[str, Any] = {}
    skipped: list[str] = []
    for part in options.only:
        if part == "ssrf":
            figures |= ssrf.run()
        elif part == "hostile":
            figures |= hostile.run()
        else:
            _play_mode(part, options, verdicts, skipped)
        say(f"{part}: done after {time.monotonic() - started:.0f} s")
    told = report(verdicts, figures, skipped)
    told["seconds"] = round(time.monotonic() - started)
    for line in told["trouble"]:
        say(f"!! {line}")
    say(json.dumps(told, ensure_ascii=False))
    return 1 if told["trouble"] else 0


def say(text: str) -> None:
    """Tell the person watching."""
    print(text, flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.faults", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=USUAL_KILLS, help="kills in each mode")
    parser.add_argument("--only", type=_names(PARTS), default=list(PARTS), help=", ".join(PARTS))
    parser.add_argument("--faults", type=lambda text: text.split(","), help="these alone")
    return parser.parse_args()


def _names(known: tuple[str, ...]) -> Callable[[str], list[str]]:
    def read(text: str) -> list[str]:
        names = [name.strip() for name in text.split(",") if name.strip()]
        if unknown := set(names) - set(known):
            raise argparse.ArgumentTypeError(f"{sorted(unknown)}; known: {', '.join(known)}")
        return [name for name in known if name in names]

    return read


def _play_mode(
    mode: str, options: argparse.Namespace, verdicts: dict[str, Verdict], skipped: list[str]
) -> None:
    with ExitStack() as closing:
        folder = closing.enter_context(tempfile.TemporaryDirectory(prefix="yangfan-faults-"))
        try:
            private = private_servers(Path(folder), closing) if mode == SCALED else None
        except ServiceMissingError as missing:
            skipped.append(f"{mode}: {missing}")
            return
        for name, prepare in _chapters(mode, private, Path(folder), options.kills, closing):
            if options.faults and name not in options.faults:
                continue
            with ExitStack() as chapter:
                try:
                    stage, fault = prepare(chapter)
                except ServiceMissingError as missing:
                    skipped.append(f"{mode} {name}: {missing}")
                    say(f"{mode} {name}: skipped: {missing}")
                    continue
                began = time.monotonic()
                verdict = verdicts[f"{mode} {name}"] = stage.play(fault)
                verdict.more["seconds"] = round(time.monotonic() - began)
                say(f"{mode} {name}: {_in_words(verdict)}")


Prepare = Callable[[ExitStack], tuple[Stage, Fault]]


def _chapters(
    mode: str, private: Private | None, folder: Path, kills: int, closing: ExitStack
) -> Iterator[tuple[str, Prepare]]:
    """Name what is tried in a mode: most of it on one stage, some of it on one of its own."""
    stages: list[Stage] = []

    def common(make: Callable[[Stage], Fault]) -> Prepare:
        def prepare(_: ExitStack) -> tuple[Stage, Fault]:
            if not stages:
                stages.append(Stage(mode, private))
                closing.callback(stages[0].close)
            return stages[0], make(stages[0])

        return prepare

    def network(chapter: ExitStack) -> tuple[Stage, Fault]:
        wires = networks.Wires(mode, private, chapter)
        return wires.stage, wires.fault()

    def disk_full(chapter: ExitStack) -> tuple[Stage, Fault]:
        full = disks.Full(mode, private, chapter, folder)
        return full.stage, full.fault()

    for name, make in _faults(private, kills):
        yield name, common(make)
    yield "network", network
    yield "disk_full", disk_full


def _faults(private: Private | None, kills: int) -> Iterator[tuple[str, Callable[[Stage], Fault]]]:
    times = max(1, kills // 20)
    yield "kills", lambda stage: storms.kills(stage, kills)
    yield "deploys", lambda stage: storms.deploys(stage, max(3, kills // 8))
    if private is not None:
        yield "database", lambda stage: outages.database_crashes(stage, private, times)
        yield "broker", lambda stage: outages.broker_crashes(stage, private, times)
        yield "broker_alarm", lambda stage: outages.broker_alarm(stage, private)
    yield "freeze", storms.freeze
    yield "slow_targets", slow.targets
    yield "poison", poisons.poison
    yield "boundaries", boundaries.kills
    yield "clock_skew", clocks.skew


def _in_words(found: Verdict) -> str:
    return (
        f"accepted {found.accepted}, delivered {found.delivered}, lost {found.lost}, "
        f"sent twice {found.duplicate_sends}, changed {found.changed}, "
        f"processed twice {found.twice}, settled in {found.settle_s} s, {found.more}"
    )


# --- the last line -------------------------------------------------------------------------------


def report(
    verdicts: dict[str, Verdict], figures: dict[str, Any], skipped: list[str]
) -> dict[str, Any]:
    """Put the last line together: what is promised first, trouble last."""

    def total(name: str) -> int:
        return sum(getattr(one, name) for one in verdicts.values())

    kills = [one for name, one in verdicts.items() if name.endswith(" kills")]
    delivered = sum(one.delivered for one in kills)
    share = sum(one.duplicate_sends for one in kills) / delivered if delivered else None
    return {
        "kills": sum(one.more["kills"] for one in kills),
        "accepted": total("accepted"),
        "delivered": total("delivered"),
        "lost": total("lost"),
        "duplicate_sends": total("duplicate_sends"),
        "duplicates_changed": total("changed"),
        "ssrf_cases": figures.get("ssrf_cases"),
        "ssrf_connections": figures.get("ssrf_connections"),
        "processed_twice": total("twice"),
        "refused": total("refused"),
        "duplicate_share_of_kills": None if share is None else round(share, 4),
        **{name: value for name, value in figures.items() if not name.endswith("_trouble")},
        "faults": {name: _figures(one) for name, one in verdicts.items()},
        "skipped": skipped + [v for k, v in figures.items() if k == "ssrf_skipped"],
        "trouble": list(_trouble(verdicts, figures)),
    }


def _figures(one: Verdict) -> dict[str, Any]:
    return {
        "accepted": one.accepted,
        "delivered": one.delivered,
        "lost": one.lost,
        "duplicate_sends": one.duplicate_sends,
        "settle_s": one.settle_s,
        **one.more,
    }


def _trouble(verdicts: dict[str, Verdict], figures: dict[str, Any]) -> Iterator[str]:
    for name, one in verdicts.items():
        for line in (*one.trouble, *judge(name, one)):
            yield f"{name}: {line}"
    if figures.get("ssrf_connections"):
        yield f"ssrf: {figures['ssrf_connections']} connections to canaries"
    for part in ("ssrf", "hostile"):
        for line in figures.get(f"{part}_trouble", ()):
            yield f"{part}: {line}"


if __name__ == "__main__":
    sys.exit(main())

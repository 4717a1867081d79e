"""The hub beside the pipeline one would write oneself, measured in one run: `make bench`.

Run it under `python -m tests.dependencies`, which finds or starts PostgreSQL and RabbitMQ. The last
line is one JSON line with every figure, every goal and whether it is reached;
docs/performance.md says how to read it. The exit code is not 0 when the hub lost or doubled events,
or something asked for could not be measured.
"""

import argparse
import dataclasses
import signal
import sys
import time
from typing import Any

from bench import report
from bench.report import Found
from bench.rigs import RIGS
from bench.run import FULL, QUICK, USUAL, Run, Sizes, machine, say
from bench.scenarios import arrays, backlog, memory, noisy, single, tenants

USUAL_SCENARIOS = (single, arrays, memory, noisy)
SLOW_SCENARIOS = (backlog, tenants)
SCENARIOS = {scenario.NAME: scenario for scenario in (*USUAL_SCENARIOS, *SLOW_SCENARIOS)}


def main() -> int:
    """Run the scenarios asked for and print what they measured."""
    # whoever ends the bench ends what it started: an exit unwinds, a bare signal would not
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = _options()
    started = time.monotonic()
    found: Found = {}
    with Run(options.only, _sizes(options), options.seed) as run:
        for name in options.scenario or _asked(options):
            found |= SCENARIOS[name].run(run)
    for line in report.summary(found):
        say(line)
    for line in run.trouble:
        say(f"!! {line}")
    more = {
        "bench": "full" if options.full else "quick" if options.quick else "usual",
        "seed": options.seed,
        "seconds": round(time.monotonic() - started),
        "machine": machine(run.elsewhere),
        "trouble": run.trouble,
    }
    say(report.last_line(found, more))
    return 1 if run.trouble else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, about a minute")
    parser.add_argument("--full", action="store_true", help="whole sizes, and the slow questions")
    parser.add_argument("--only", type=_names(RIGS), default=list(RIGS), help="systems")
    parser.add_argument(
        "--scenario", type=_names(SCENARIOS), help="questions; the slow ones only with --full"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, help="of every scenario")
    parser.add_argument("--tenants", type=_three, help="organizations,apps,flows")
    parser.add_argument("--backlog", type=int, help="events that wait")
    parser.add_argument("--memory-events", type=int, help="events of the memory scenario")
    return parser.parse_args()


def _asked(options: argparse.Namespace) -> list[str]:
    slow = SLOW_SCENARIOS if options.full else ()
    return [scenario.NAME for scenario in (*USUAL_SCENARIOS, *slow)]


def _sizes(options: argparse.Namespace) -> Sizes:
    given = {
        name: getattr(options, name)
        for name in ("rounds", "tenants", "backlog", "memory_events")
        if getattr(options, name)
    }
    if options.rounds:
        given["side_rounds"] = options.rounds
    return dataclasses.replace(FULL if options.full else QUICK if options.quick else USUAL, **given)


def _three(text: str) -> tuple[int, ...]:
    numbers = tuple(int(part) for part in text.split(","))
    if len(numbers) != 3:
        raise argparse.ArgumentTypeError("three numbers, e.g. 2000,200,6000")
    return numbers


def _names(known: Any) -> Any:
    def read(text: str) -> list[str]:
        names = [name.strip() for name in text.split(",") if name.strip()]
        if unknown := set(names) - set(known):
            raise argparse.ArgumentTypeError(f"{sorted(unknown)}; known: {', '.join(known)}")
        return [name for name in known if name in names]

    return read


if __name__ == "__main__":
    sys.exit(main())

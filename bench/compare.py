"""The hub beside the pipeline one would write oneself, measured in one run: `make bench`.

Run it under `python -m tests.dependencies`, which finds or starts PostgreSQL and RabbitMQ. The last
line is one JSON line with every figure, every goal and whether it is reached; docs/measure.md says
how to read it. The exit code is not 0 when the hub lost or doubled events, or something asked for
could not be measured.
"""

import argparse
import sys
import time
from typing import Any

from bench import report
from bench.rigs import RIGS
from bench.run import FULL, QUICK, machine, running, say
from bench.scenarios import single

SCENARIOS = {scenario.NAME: scenario for scenario in (single,)}


def main() -> int:
    """Run the scenarios asked for and print what they measured."""
    options = _options()
    sizes = QUICK if options.quick else FULL
    started, before = time.monotonic(), machine()
    figures: dict[str, Any] = {}
    trouble: list[str] = []
    with running(options.only, sizes, options.seed) as run:
        for name in options.scenario:
            figures |= SCENARIOS[name].run(run)
        trouble += run.trouble
    for line in report.summary(figures):
        say(line)
    for line in trouble:
        say(f"!! {line}")
    more = {
        "bench": "quick" if options.quick else "full",
        "seed": options.seed,
        "seconds": round(time.monotonic() - started),
        "machine": before,
        "trouble": trouble,
    }
    say(report.last_line(figures, more))
    return 1 if trouble else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, about a minute")
    parser.add_argument("--only", type=_names(RIGS), default=list(RIGS), help="systems")
    parser.add_argument(
        "--scenario", type=_names(SCENARIOS), default=list(SCENARIOS), help="questions"
    )
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def _names(known: Any) -> Any:
    def read(text: str) -> list[str]:
        names = [name.strip() for name in text.split(",") if name.strip()]
        if unknown := set(names) - set(known):
            raise argparse.ArgumentTypeError(f"{sorted(unknown)}; known: {', '.join(known)}")
        return [name for name in known if name in names]

    return read


if __name__ == "__main__":
    sys.exit(main())

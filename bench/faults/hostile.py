"""Schemas, mappings, expressions and bodies made to hurt: refused at once, or done in a blink.

Times are the processor's, the best of three: what else the machine does must not decide.
"""

import contextlib
import gzip
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bench.faults import borrowed
from catalog import json_schemas
from connectors.engine import expressions, mapping
from webhooks import intake
from webhooks.envelopes import open_envelopes

BLINK_MS = 100.0
TRIES = 3


@dataclass
class Found:
    """How long each case took that was not refused when it was saved."""

    cases: int = 0
    refused: int = 0
    slowest: dict[str, float] = field(default_factory=dict)
    saved: list[str] = field(default_factory=list)  # although it should have been refused

    def time(self, name: str, work: Callable[[], Any]) -> None:
        """Time a case; an exception is an end like another."""
        self.cases += 1
        slowness = borrowed.module("factories.machine").slowness
        best = float("inf")
        for _ in range(TRIES):
            slower, started = slowness(), time.thread_time()
            with contextlib.suppress(Exception):
                work()
            best = min(best, (time.thread_time() - started) * 1000 / slower)
        self.slowest[name] = round(best, 1)


def run() -> dict[str, Any]:
    """Try everything and tell the worst."""
    found = Found()
    _schemas(found)
    _mappings(found)
    _bodies(found)
    worst = sorted(found.slowest.items(), key=lambda pair: -pair[1])
    return {
        "hostile_cases": found.cases,
        "hostile_refused": found.refused,
        "hostile_worst_ms": worst[0][1],
        "hostile_worst": worst[0][0],
        "hostile_over_100_ms": {name: ms for name, ms in worst if ms > BLINK_MS},
        "hostile_trouble": [f"was saved: {name}" for name in found.saved],
    }


def _schemas(found: Found) -> None:
    corpus = borrowed.module("catalog.test_hostile")
    for name, schema in corpus.REFUSED.items():
        found.cases += 1
        if json_schemas.check(schema):
            found.refused += 1
        else:
            found.saved.append(name)
    for name, (schema, value) in corpus.COSTLY.items():
        judge = json_schemas.validator_of(schema)
        found.time(f"schema: {name}", lambda judge=judge, value=value: judge(value))


def _mappings(found: Found) -> None:
    corpus = borrowed.module("connectors.test_hostile")
    for name, document in corpus.MAPPINGS.items():
        plan = mapping.prepare(document)
        found.time(f"mapping: {name}", lambda plan=plan: plan.apply(corpus.ACTIVATION))
    for source in CONDITIONS:
        found.time(
            f"condition: {source}",
            lambda source=source: expressions.condition(source, corpus.ACTIVATION),
        )
    for pattern in PATTERNS:
        found.cases += 1
        try:
            expressions.compile(f"event.data.text.matches('{pattern}')")
        except expressions.BadExpression:
            found.refused += 1
        else:
            found.saved.append(pattern)


CONDITIONS = (
    "event.data.few.all(x, event.data.few.all(y, x.n + y.n + x.n + y.n + x.n + y.n < 9000))",
    "event.data.many.all(x, x in event.data.many)",
    "event.data.many.all(x, event.data.many == event.data.many)",
    "event.data.book.contains('zz') || event.data.book.contains('yy')",
    "event.data.texts.exists(x, x.matches('(a|b)+c'))",
)
PATTERNS = ("[ab]*a[ab]{16}c", "[ab]*a[ab]{200}c", "(?:[ab]?){300}c*a[ab]{99}", "(?=a)", "(")
MEGABYTE = 1 << 20


def bodies() -> dict[str, tuple[bytes, str]]:
    """Return bodies and their encoding."""
    return {
        "ten megabytes": (b'{"type":"a.b","data":"' + b"x" * (10 * MEGABYTE) + b'"}', ""),
        "ten megabytes in gzip": (gzip.compress(b"[" * (10 * MEGABYTE)), "gzip"),
        "a gigabyte in gzip": (gzip.compress(gzip.compress(bytes(200 * MEGABYTE))), "gzip"),
        "lists in lists": (b"[" * (MEGABYTE - 1), ""),
        "lists in lists, closed": (b"[" * (MEGABYTE // 2) + b"]" * (MEGABYTE // 2), ""),
        "sixty deep, again and again": (
            b"[" + b",".join([b"[" * 60 + b"]" * 60] * (MEGABYTE // 121 - 1)) + b"]",
            "",
        ),
        "objects in objects": (b'{"a":' * 150_000 + b"1" + b"}" * 150_000, ""),
        "a thousand events": (json.dumps([{"type": "a.b", "data": {}}] * 1000).encode(), ""),
        "a million keys": (
            json.dumps({"type": "a.b", "data": {f"{i:x}": 1 for i in range(80_000)}}).encode(),
            "",
        ),
        "a long number": (b'{"type":"a.b","data":' + b"9" * (MEGABYTE - 100) + b"}", ""),
        "many long numbers": (
            b'{"type":"a.b","data":[' + b",".join([b"9" * 4000] * 250) + b"]}",
            "",
        ),
        "a huge exponent": (b'{"type":"a.b","data":1e999999999}', ""),
        "half a character": (rb'{"type":"a.b","data":"\ud800"}', ""),
        "backslashes": (b'{"type":"a.b","data":"' + b"\\\\" * (MEGABYTE // 2 - 50) + b'"}', ""),
    }


def _bodies(found: Found) -> None:
    """Read each as intake does after the signature."""
    for name, (raw, encoding) in bodies().items():

        def work(raw: bytes = raw, encoding: str = encoding) -> None:
            intake._check_size({}, raw)  # noqa: SLF001
            body = intake._decode(raw, encoding)  # noqa: SLF001
            open_envelopes(body, "application/json", {})

        found.time(f"body: {name}", work)

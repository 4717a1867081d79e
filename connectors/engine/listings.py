"""Listings: a page of what an app lists, and its word on sending something again."""

from collections.abc import Mapping
from typing import Any

from connectors.engine import answers, schemas
from connectors.engine.answers import Answer
from connectors.engine.connector import Connector, Reconcile
from kernel.http import Failure, Response

_PAGE = {
    "type": "object",
    "required": ["items"],
    "properties": {"items": {"type": "array", "maxItems": 1000}},
}


def read_list(
    connector: Connector,
    reconcile: Reconcile,
    asked: Mapping[str, Any],
    outcome: Response | Failure,
    attempt_no: int = 1,
) -> Answer:
    """Return what the answer for a page of a list means; its output is {items, next, token}.

    `asked` is what the page was asked for with, which `next` may count on from.
    """
    shape = _look_shape(reconcile, reconcile.page, _PAGE, {"look": asked})
    return answers.read_shape(connector, shape, outcome, attempt_no)


def read_redelivery(
    connector: Connector, reconcile: Reconcile, outcome: Response | Failure, attempt_no: int = 1
) -> Answer:
    """Return what the answer to asking for a delivery again means."""
    return answers.read_shape(connector, _look_shape(reconcile, None, True), outcome, attempt_no)


def _look_shape(
    reconcile: Reconcile,
    result: Any,
    output: schemas.Schema,
    known: Mapping[str, Any] | None = None,
) -> answers.Shape:
    return answers.Shape(
        reconcile.envelope,
        reconcile.errors,
        result,
        output,
        is_read=True,
        is_idempotent=True,
        known=known or {},
    )

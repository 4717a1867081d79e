"""Cuts waits short: what waits for its next try, minutes or hours away, is tried now.

So that a run need not last as long as the ladder of retries. Nothing but times is changed.
"""

from typing import Any

from sqlalchemy import Connection, create_engine, update

from connectors.tables import RUN
from kernel import clock
from webhooks.tables import DELIVERY, ENDPOINT, EVENT


def hurry(url: str) -> None:
    """Make everything due that waits for a moment, and let circuits be probed."""
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            _bring_forward(connection)
    finally:
        engine.dispose()


def _bring_forward(connection: Connection) -> None:
    now = clock.now()
    for table, column, states in (
        (EVENT, "next_at", ("waiting",)),
        (DELIVERY, "next_at", ("due", "waiting")),
        (RUN, "next_at", ("due", "waiting")),
        (ENDPOINT, "circuit_at", ("active",)),
    ):
        column_of: Any = table.c[column]
        connection.execute(
            update(table).where(table.c.state.in_(states), column_of > now).values({column: now})
        )

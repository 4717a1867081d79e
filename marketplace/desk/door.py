"""The desk's door: the only way from the desk to rows of more than one organization.

Whoever goes through it as a person must run the hub, whatever route brought them here. What is
shown behind it are counts, names, settings and reasons; the content of nobody's events.
Machines (metrics, readiness, the command line) come through `counting` and get counts alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlmodel import Session

from identity.principals import Principal
from kernel.database import EVERY, reading, transaction
from kernel.errors import N_, Forbidden

LOOK, CHANGE = "hub:operate", "tenants:change"


@contextmanager
def looking(who: Principal) -> Iterator[Session]:
    """Let an operator read over every organization; raises Forbidden for anybody else."""
    _check(who, LOOK)
    with reading(EVERY) as session:
        yield session


@contextmanager
def changing(who: Principal) -> Iterator[Session]:
    """Let an operator change what an organization may; raises Forbidden for anybody else."""
    _check(who, LOOK, CHANGE)
    with transaction(EVERY) as session:
        yield session


@contextmanager
def counting() -> Iterator[Session]:
    """Let the hub itself count over every organization."""
    with reading(EVERY) as session:
        yield session


def _check(who: Principal, *permissions: str) -> None:
    if not (who.is_operator and all(who.may(permission) for permission in permissions)):
        raise Forbidden(
            detail=N_("This page is for the people who run this hub."), code="not_operator"
        )

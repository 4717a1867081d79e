"""The shape of a step: what it prepares, calls and settles, forwards and backwards."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session

from marketplace.tables import Installation, Rollout, RolloutStep

# Runs outside every transaction and gives back what came of it.
Call = Callable[[], Any]


@dataclass
class Work:
    """One step under its worker's hands, inside a transaction."""

    session: Session
    rollout: Rollout
    step: RolloutStep
    installation: Installation | None

    @property
    def organization_id(self) -> str:
        """The tenant it all belongs to."""
        return self.rollout.organization_id

    @property
    def app_title(self) -> Any:
        """The app's name for sentences, {zh, en}."""
        if self.installation is not None and self.installation.title:
            return self.installation.title
        return self.step.app_key or ""

    def keep(self, **values: Any) -> None:
        """Put values into what the step keeps (never a secret)."""
        # a new dict: the column only notices assignment
        self.step.state_kept = {**(self.step.state_kept or {}), **values}

    def kept(self, name: str, default: Any = None) -> Any:
        """Read one of the kept values."""
        return (self.step.state_kept or {}).get(name, default)


@dataclass(frozen=True)
class Done:
    """The step holds."""

    say: dict[str, str]
    is_skipped: bool = False


@dataclass(frozen=True)
class Again:
    """It may work later: nothing was refused for good."""

    say: dict[str, str]
    after_seconds: int | None = None  # None: the rollout's own ladder
    problem: dict[str, str] | None = None  # what to say when the ladder is used up
    is_progress: bool = False  # a part of the step was done: not an attempt that failed


@dataclass(frozen=True)
class Refused:
    """It will not work; the rollout has to be undone."""

    problem: dict[str, str]


Result = Done | Again | Refused
Prepare = Callable[[Work], Call | None]
Settle = Callable[[Work, Any], Result]
GiveUp = Callable[[Work], None]


def prepare_nothing(work: Work) -> None:
    """Prepare no call: the step is our own work alone."""


@dataclass(frozen=True)
class Kind:
    """What a kind of step does; `undo_*` are None where nothing is left behind."""

    state: str  # the rollout's state while it runs
    settle: Settle
    prepare: Prepare = prepare_nothing
    budget_seconds: int = 5
    undo_prepare: Prepare = prepare_nothing
    undo_settle: Settle | None = None
    # Finishes on our side what a vendor does not answer; leaves a note.
    give_up: GiveUp | None = None

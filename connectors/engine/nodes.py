"""The nodes a compiled expression is made of."""

from dataclasses import dataclass, field
from typing import Any

from connectors.engine import cel


@dataclass(frozen=True, slots=True)
class Literal:
    """A value written in the expression."""

    value: Any


@dataclass(frozen=True, slots=True)
class Path:
    """A place in the activation; resolved without CEL, exactly."""

    steps: tuple[str | int, ...]

    def plain(self) -> str:
        """Return the path as it is written."""
        return "".join(
            f"[{step}]" if isinstance(step, int) else f".{step}" for step in self.steps
        ).removeprefix(".")


@dataclass(frozen=True, slots=True)
class Call:
    """A call of one of our functions, or of coalesce or has."""

    name: str
    arguments: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Cel:
    """A piece for the CEL engine with the nodes that give its variables their values."""

    program: cel.Program = field(compare=False)
    source: str
    bindings: tuple["Node", ...]
    tokens: int
    loops: int
    compared: frozenset[int]  # bindings that a loop's body looks at as a whole


Node = Literal | Path | Call | Cel

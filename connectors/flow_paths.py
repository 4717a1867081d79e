"""Flow paths: where a run stands, as one whole number.

A recipe's steps are numbered as they are written, those inside others along with the rest, and a
flow without loops stands at such a number. Inside a loop the number also says which item it is at:
each loop around the step adds a digit to the base of `_ITEMS`, the outermost first. So a step of a
run has one number however deep it is, and a flow without loops costs nothing for it.
"""

from collections.abc import Sequence

MAX_ITEMS = 1_000  # of one loop
MAX_DEPTH = 2  # loops inside each other
SPAN = 1_000  # more than a flow may have steps
_ITEMS = MAX_ITEMS + 1


def step_of(position: int) -> int:
    """Return the number of the step in its recipe."""
    return position % SPAN


def items_of(position: int) -> tuple[int, ...]:
    """Return at which item of each loop around it a position is, from 0, the outermost first."""
    left, found = position // SPAN, []
    while left:
        left, digit = divmod(left, _ITEMS)
        found.append(digit - 1)
    return tuple(reversed(found))


def position_at(step: int, items: Sequence[int]) -> int:
    """Return the position of a step at these items of the loops around it."""
    lap = 0
    for item in items:
        lap = lap * _ITEMS + item + 1
    return lap * SPAN + step

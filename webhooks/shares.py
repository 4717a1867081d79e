"""Shares: how a round of work is divided among the organizations that wait, by their weights."""

import random as randomness
from collections.abc import Mapping
from math import floor

_chance = randomness.Random()  # noqa: S311 - decides whose turn it is, not who gets in


def pick(
    tenants_with_waiting: Mapping[str, int], limit: int, random: randomness.Random | None = None
) -> dict[str, int]:
    """Divide `limit` pieces of work: id → how many, in all exactly `limit`; zeros are left out.

    Each organization gets its exact share, rounded up or down by chance such that over many rounds
    it comes to the share. So everybody has a turn, even one of weight 1 among thousands.
    """
    whole = sum(tenants_with_waiting.values())
    if limit <= 0 or whole <= 0:
        return {}
    # marks at equal distances along a line on which everybody has a stretch as long as their share
    offset = (random or _chance).random()
    found: dict[str, int] = {}
    passed, marks = 0, 0
    for tenant, weight in tenants_with_waiting.items():
        passed += weight
        upto = floor(passed * limit / whole + offset) if passed < whole else limit
        upto = min(upto, limit)
        if upto > marks:
            found[tenant] = upto - marks
            marks = upto
    return found

"""Recipes: a small language in which a manifest says how requests are signed, sealed and checked.

A recipe is a list of steps, each an object with one operation. Steps give names to bytes, pairs
and JSON values, or check something and refuse. Nothing here reads a clock, a file or a network:
what a recipe may know is handed in. docs/recipes.md has the language, decision 0013 its reasons.
"""

from webhooks.recipes.checking import check, check_condition, check_text
from webhooks.recipes.running import is_so, run
from webhooks.recipes.texts import read_xml
from webhooks.recipes.values import Heavy, Pairs, Refused, Surroundings, find, text

__all__ = [
    "Heavy", "Pairs", "Refused", "Surroundings", "check", "check_condition", "check_text", "find",
    "is_so", "read_xml", "run", "text",
]  # fmt: skip

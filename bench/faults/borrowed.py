"""Lists that the tests keep: spellings of addresses, hostile schemas, mappings and bodies."""

import importlib
import sys
from types import ModuleType

from bench.hub import ROOT


def module(name: str) -> ModuleType:
    """Return a test module, for the lists in it."""
    factories = str(ROOT / "tests")
    if factories not in sys.path:
        sys.path.append(factories)
    return importlib.import_module(f"tests.{name}")

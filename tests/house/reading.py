"""How the laws read the house: its files, its syntax trees, its application."""

import ast
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("kernel", "identity", "catalog", "webhooks", "connectors", "marketplace")
# edge modules may know HTTP or the queue; everything else in a package is a noun
EDGES = {
    "routes",
    "pages",
    "tasks",
    "cli",
    "app",
    "server",
    "guard",
    "assets",
    "hooks",
    "messages",
    "doctor",
    "headers",
    "hearing",
    "states",
    "status",
    "navigation",
    "web",
    "queue",
}


@cache
def modules(*packages: str) -> tuple[Path, ...]:
    """Every Python module of the packages, migrations' versions aside."""
    found = []
    for package in packages or PACKAGES:
        found += sorted((ROOT / package).rglob("*.py"))
    return tuple(p for p in found if "versions" not in p.parts)


@cache
def tree(path: Path) -> ast.Module:
    """The module's syntax tree."""
    return ast.parse(path.read_text(), str(path))


def name(path: Path) -> str:
    """The path as a reader would say it."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name


def is_noun(path: Path) -> bool:
    """Tell a noun module from an edge; a folder routes/ or pages/ is an edge as a whole."""
    parts = path.relative_to(ROOT).with_suffix("").parts[1:]
    return not (set(parts) & EDGES)


def tracked() -> list[str]:
    """Every file git tracks."""
    answer = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return answer.stdout.split("\n")[:-1]

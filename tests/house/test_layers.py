"""One way down, as import-linter sees it; and it fails on a deliberate upward import."""

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from house.reading import PACKAGES, ROOT

LINT = Path(sys.executable).with_name("lint-imports")


def lint(folder):
    return subprocess.run(
        [LINT, "--no-cache"], cwd=folder, capture_output=True, text=True, check=False
    )


def test_layers_hold():
    answer = lint(ROOT)
    assert answer.returncode == 0, answer.stdout


@pytest.mark.parametrize(
    ("room", "upstairs"),
    [("kernel/ids.py", "marketplace.app"), ("webhooks/events.py", "connectors.runs")],
)
def test_an_upward_import_is_caught(tmp_path, room, upstairs):
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("*.po", "data")
        )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    broken = tmp_path / room
    broken.write_text(f"import {upstairs}\n" + broken.read_text())
    answer = lint(tmp_path)
    assert answer.returncode != 0
    assert "broken" in answer.stdout.lower()


def test_packages_are_ours():
    for package in PACKAGES:
        origin = find_spec(package).origin
        assert Path(origin).is_relative_to(ROOT), f"{package} comes from {origin}"

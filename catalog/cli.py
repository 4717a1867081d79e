"""The command line of the vocabulary: `yangfan vocabulary check`, `record` and `compare`."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from catalog import evolution, schema_changes
from catalog.event_types import FOLDER

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_language = click.option(
    "--language", type=click.Choice(["zh", "en"]), default="zh", show_default=True
)
SUMMARIES = {
    "check": {
        "zh": "{types} 个版本，{breaking} 处不兼容，{open} 处尚未登记",
        "en": "{types} versions, {breaking} incompatible, {open} not recorded",
    },
    "recorded": {"zh": "已登记 {types} 个版本", "en": "{types} versions recorded"},
    "compatible": {"zh": "兼容：可以直接修改", "en": "compatible: change it in place"},
    "breaking": {"zh": "不兼容：需要新版本", "en": "incompatible: this needs a new version"},
}


@click.group("vocabulary")
def group() -> None:
    """Keep the event types' promises: what may change in place and what needs a new version."""


@group.command("check")
@click.option("--against", type=_FOLDER, help="Another folder of event types, such as a release's")
@_language
def check(against: Path | None, language: str) -> None:
    """Compare the event types with what was published of them; anything found is an error."""
    now = evolution.read(FOLDER)
    before = evolution.recorded() if against is None else evolution.read(against)
    found = evolution.findings(now, before)
    for finding in found:
        click.echo(finding.plain(language))
    breaking = sum(1 for finding in found if finding.is_breaking)
    said = SUMMARIES["check"][language]
    click.echo(said.format(types=len(now["types"]), breaking=breaking, open=len(found) - breaking))
    if breaking or (found and against is None):
        sys.exit(1)


@group.command("record")
@click.option("--folder", type=_FOLDER, default=FOLDER, help="The folder of event types")
@_language
def record(folder: Path, language: str) -> None:
    """Write down what the event types promise now; refused while a promise is broken."""
    now, path = evolution.read(folder), folder / evolution.PUBLISHED
    before: dict[str, Any] = {"shapes": {}, "types": {}}
    if path.exists():
        before = json.loads(path.read_text("utf-8"))
    broken = [one for one in evolution.findings(now, before) if one.is_breaking]
    for finding in broken:
        click.echo(finding.plain(language), err=True)
    if broken:
        sys.exit(1)
    path.write_text(evolution.written(now), "utf-8")
    click.echo(SUMMARIES["recorded"][language].format(types=len(now["types"])))


@group.command("compare")
@click.argument("old", type=_FILE)
@click.argument("new", type=_FILE)
@_language
def compare(old: Path, new: Path, language: str) -> None:
    """Compare two JSON Schemas, for types of your own; says which changes need a new version."""
    found = schema_changes.changes(_schema_of(old), _schema_of(new))
    for change in found:
        mark = "!" if change.needs_version else " "
        click.echo(f"{mark} {change.path or '/'} {evolution.plain_change(change, language)}")
    needs_version = schema_changes.needs_version(found)
    click.echo(SUMMARIES["breaking" if needs_version else "compatible"][language])
    if needs_version:
        sys.exit(1)


def _schema_of(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_text("utf-8"))
    if not isinstance(found, dict):
        raise click.BadParameter(f"{path}: not a JSON Schema")
    return found

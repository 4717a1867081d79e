"""The command line of connectors: `yangfan connector validate FOLDER`, `yangfan connector mock`."""

import runpy
import sys
from pathlib import Path

import click

from connectors.lab.validate import validate


@click.group("connector")
def group() -> None:
    """Check connectors and try them without the real app."""


@group.command("validate")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--language", type=click.Choice(["zh", "en"]), default="zh", show_default=True)
def validate_folder(folder: Path, language: str) -> None:
    """Check a connector's folder; every finding says the file, the line and the cure."""
    findings = validate(folder)
    for finding in findings:
        click.echo(finding.plain(language))
    if findings:
        click.echo(f"{folder.name}: {len(findings)}", err=True)
        sys.exit(1)
    click.echo(f"{folder.name}: OK")


@group.command("mock", context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run_mock(arguments: tuple[str, ...]) -> None:
    """Start the demo vendors (--base-port, --state-dir); stops with Ctrl-C."""
    sys.argv = ["mock_vendor", *arguments]
    runpy.run_module("connectors.lab.mock_vendor", run_name="__main__")

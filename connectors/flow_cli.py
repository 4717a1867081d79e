"""The command line of flows: `yangfan flow prove`."""

import sys

import click

from connectors import proofs
from connectors.engine import flow_templates
from kernel import documents
from kernel.errors import NotFound


@click.group("flow")
def group() -> None:
    """Look after ready-made flows."""


@group.command("prove")
@click.argument("keys", nargs=-1)
@click.option("--all", "is_all", is_flag=True, help="Every template.")
@click.option("--language", type=click.Choice(["zh", "en"]), default="zh", show_default=True)
def prove(keys: tuple[str, ...], is_all: bool, language: str) -> None:  # noqa: FBT001 - click hands options over like this
    """Rehearse templates by KEY on their samples; nothing is sent. The last line is JSON."""
    if not keys and not is_all:
        raise click.UsageError("Name templates, or say --all.")
    try:
        chosen = [*flow_templates.all().values()] if is_all else [*map(flow_templates.find, keys)]
    except NotFound as no:
        known = ", ".join(flow_templates.all())
        raise click.ClickException(f"{(no.detail or no.title) % no.params} ({known})") from no
    proved = [proofs.prove(one) for one in chosen]
    for one in proved:
        click.echo(f"{'FAIL' if one.problems else 'ok  '} {one.key} ({one.trials})")
        for problem in one.problems:
            click.echo(f"  {problem.plain(language)}", err=True)
    failed = sum(bool(one.problems) for one in proved)
    summary = {"templates": len(proved), "passed": len(proved) - failed, "failed": failed}
    click.echo(documents.dump(summary).decode())
    sys.exit(1 if failed else 0)

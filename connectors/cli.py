"""The command line of connectors: `yangfan connector init`, `validate`, `test`, `diff`, `mock`."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from connectors.engine import loader
from connectors.engine.findings import EngineError, Finding
from connectors.lab import beginning, differences, mock_vendor, offline, validate
from connectors.publishing import cli as publishing
from kernel import documents

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
Command = Callable[..., Any]


@click.group("connector")
def group() -> None:
    """Write connectors, check them, and try them without the real app."""


def _language(command: Command) -> Command:
    choice = click.Choice(["zh", "en"])
    return click.option("--language", type=choice, default="zh", show_default=True)(command)


def _folders(command: Command) -> Command:
    command = click.option("--all", "is_all", is_flag=True, help="The whole library.")(command)
    return click.argument("folders", nargs=-1, type=FOLDER)(command)


@group.command("init")
@click.argument("folder", metavar="KEY", type=click.Path(path_type=Path))
@click.option("--from-openapi", "document", type=FILE, help="Take actions from an OpenAPI 3 file.")
@click.option("--only", multiple=True, help="An operationId or tag to take; may be repeated.")
@_language
def init(folder: Path, document: Path | None, only: tuple[str, ...], language: str) -> None:
    """Write the folder of a new connector named KEY (or PATH/KEY); what is TODO in it is yours."""
    try:
        draft = beginning.begin(folder, document, only)
    except loader.Unfit as unfit:
        _end(unfit.findings, language, f"{folder.name}: {len(unfit.findings)}")
    except EngineError as no:
        raise click.ClickException(no.say[language]) from no
    for note in draft.left_out:
        click.echo(note[language])
    counts = (len(draft.manifest["actions"]), len(draft.manifest.get("triggers", {})))
    said = {
        "zh": f"{folder}：{counts[0]} 个动作，{counts[1]} 个触发器。接着运行 "
        f"yangfan connector validate {folder}，把 TODO 写完。",
        "en": f"{folder}: {counts[0]} actions, {counts[1]} triggers. Now run "
        f"yangfan connector validate {folder} and fill in what is TODO.",
    }
    click.echo(said[language])


@group.command("validate")
@_folders
@_language
def validate_folder(folders: tuple[Path, ...], is_all: bool, language: str) -> None:  # noqa: FBT001 - click hands options over like this
    """Check folders; every finding says the file, the line, the place and the cure."""
    failed = 0
    chosen = _chosen(folders, is_all=is_all)
    for folder in chosen:
        findings = validate.validate(folder)
        _tell(folder, findings, language)
        click.echo(f"{folder.name}: {len(findings) or 'OK'}", err=bool(findings))
        failed += bool(findings)
    _sum_up(len(chosen), len(chosen) - failed, failed, is_all=is_all)


@group.command("test")
@_folders
@click.option("--offline", "offline_only", is_flag=True, default=True, help="Always so.")
@click.option("--write-contract", is_flag=True, help="Refresh contract.json after a new version.")
@click.option("--write-fixtures", is_flag=True, help="Write the fixtures that are missing.")
@click.option("--write-requests", is_flag=True, help="Bring their requests up to the manifest.")
@_language
def test_folder(
    folders: tuple[Path, ...],
    is_all: bool,  # noqa: FBT001
    offline_only: bool,  # noqa: ARG001, FBT001 - nothing here ever calls the real app
    write_contract: bool,  # noqa: FBT001
    write_fixtures: bool,  # noqa: FBT001
    write_requests: bool,  # noqa: FBT001
    language: str,
) -> None:
    """Play every fixture like a cassette and put everyday refusals to every action; no network."""
    passed = failed = 0
    chosen = _chosen(folders, is_all=is_all)
    for folder in chosen:
        try:
            if write_fixtures:
                for name in beginning.write_fixtures(folder, {}):
                    click.echo(f"{folder.name} + fixtures/{name}")
            if write_requests:
                for name in beginning.rewrite_requests(folder):
                    click.echo(f"{folder.name} ~ fixtures/{name}")
            if write_contract:
                _write_contract(folder, language)
            outcomes = offline.run(folder)
        except loader.Unfit as unfit:
            outcomes = [offline.Outcome("manifest.yaml", tuple(unfit.findings))]
        for one in outcomes:
            click.echo(f"{folder.name} {'ok  ' if one.is_ok else 'FAIL'} {one.name}")
            _tell(folder, list(one.findings), language)
        good = sum(one.is_ok for one in outcomes)
        passed, failed = passed + good, failed + len(outcomes) - good
    _sum_up(len(chosen), passed, failed, is_all=True)


@group.command("diff")
@click.argument("old", type=FOLDER)
@click.argument("new", type=FOLDER)
@_language
def diff(old: Path, new: Path, language: str) -> None:
    """Say what changed from OLD to NEW; ends with 1 when the version does not allow for it."""
    try:
        before, after = loader.load(old.resolve()), loader.load(new.resolve())
    except loader.Unfit as unfit:
        _end(unfit.findings, language, "diff")
    found = differences.compare(before, after)
    for one in found:
        click.echo(one.plain(language))
    breaking = sum(one.is_breaking for one in found)
    is_fine = differences.is_allowed(before, after, found)
    if not is_fine:
        cure = {
            "zh": "不兼容的变化要提高主版本号，其他变化也要提高版本号",
            "en": "A breaking change needs a higher first number, any other a higher version",
        }
        click.echo(cure[language], err=True)
    _json({"old": before.version, "new": after.version, "changes": len(found),
           "breaking": breaking, "allowed": is_fine})  # fmt: skip
    sys.exit(0 if is_fine else 1)


@group.command("mock", context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run_mock(arguments: tuple[str, ...]) -> None:
    """Serve stand-ins of apps: FOLDERs or keys of the library, all demo apps without any.

    Options: --base-port, --host, --state-dir, --mode, --seconds, --any-address. Ctrl-C ends it.
    """
    sys.exit(mock_vendor.main(list(arguments)))


group.add_command(publishing.publish)


def _chosen(folders: tuple[Path, ...], *, is_all: bool) -> list[Path]:
    if is_all:
        return sorted(path.parent for path in loader.LIBRARY.glob("*/manifest.yaml"))
    if not folders:
        raise click.UsageError("Name a folder, or --all")
    return list(folders)


def _tell(folder: Path, findings: list[Finding], language: str) -> None:
    for finding in findings:
        click.echo(f"{folder.as_posix()}/{finding.plain(language)}")


def _end(findings: list[Finding], language: str, closing: str) -> None:
    for finding in findings:
        click.echo(finding.plain(language))
    click.echo(closing, err=True)
    sys.exit(1)


def _write_contract(folder: Path, language: str) -> None:
    if not validate.write_contract(folder):
        said = {
            "zh": "契约变了而版本没有提高：先提高 connector.version",
            "en": "The contract changed and the version did not: raise connector.version first",
        }
        raise click.ClickException(said[language])


def _sum_up(connectors: int, passed: int, failed: int, *, is_all: bool) -> None:
    if is_all:
        _json({"connectors": connectors, "passed": passed, "failed": failed})
    sys.exit(1 if failed else 0)


def _json(value: Any) -> None:
    click.echo(documents.dump(value).decode())

"""`yangfan connector publish`: a folder on this machine goes to a hub and is checked there.

The hub is asked over its API with a key of the vendor's. Only the hub that is named is called.
"""

import base64
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from connectors.engine.findings import Finding
from connectors.errors import Unfit
from connectors.lab import validate
from connectors.publishing import archives
from kernel import documents, http
from kernel.settings import settings_override

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
WAIT_SECONDS, POLL_SECONDS = 240.0, 1.0
MAX_ANSWER = 4 << 20


@click.command("publish")
@click.argument("folder", type=FOLDER)
@click.option("--hub", required=True, envvar="YANGFAN_HUB", help="Address of the hub.")
@click.option("--key", required=True, envvar="YANGFAN_API_KEY", help="An API key of the vendor's.")
@click.option("--draft", is_flag=True, help="Upload and check; do not send it to review.")
@click.option("--language", type=click.Choice(["zh", "en"]), default="zh", show_default=True)
def publish(folder: Path, hub: str, key: str, draft: bool, language: str) -> None:  # noqa: FBT001 - click hands options over like this
    """Check FOLDER here, send it to a hub, and say what the hub found. The last line is JSON."""
    findings = validate.validate(folder)
    for one in findings:
        click.echo(f"{folder.as_posix()}/{one.plain(language)}", err=True)
    if findings:
        _end({"state": "failed", "findings": len(findings)}, is_good=False)
    try:
        raw = archives.pack(archives.of_folder(folder.resolve()))
    except Unfit as unfit:
        raise click.ClickException(unfit.findings[0]["say"][language]) from unfit
    at = _Hub(hub.rstrip("/"), key, language)
    edition = at.ask("POST", "", {"archive": base64.b64encode(raw).decode()})
    click.echo(f"{edition['id']} {edition['digest']}")
    edition = _wait(at, edition)
    _show(edition, language)
    if edition["state"] == "checked" and not draft:
        edition = at.ask("POST", f"/{edition['id']}/submit", {})
    is_good = edition["state"] in ("checked", "in_review")
    told = {name: edition[name] for name in ("id", "key", "version", "state", "is_allowed")}
    _end({**told, "findings": len(edition["findings"])}, is_good=is_good)


def _wait(at: "_Hub", edition: dict[str, Any]) -> dict[str, Any]:
    until, shown = time.monotonic() + WAIT_SECONDS, None
    while edition["state"] == "checking":
        if time.monotonic() > until:
            raise click.ClickException("The hub has not come to the check yet; look at its page.")
        time.sleep(POLL_SECONDS)
        edition = at.ask("GET", f"/{edition['id']}")
        trial = edition["trial"]
        if "done" in trial and trial != shown:
            click.echo(f"{trial['done']}/{trial['of']}")
            shown = trial
    return edition


def _show(edition: dict[str, Any], language: str) -> None:
    for one in edition["findings"]:
        click.echo(Finding(**one).plain(language), err=True)
    trial = edition["trial"]
    for failed in trial.get("failures", []):
        click.echo(f"FAIL {failed['name']}", err=True)
        for one in failed["findings"]:
            click.echo(f"  {Finding(**one).plain(language)}", err=True)
    if "passed" in trial:
        click.echo(f"{trial['passed']} ok, {trial['failed']} FAIL")
    words = {"zh": ("不兼容", "兼容"), "en": ("BREAKING", "fine")}[language]
    for one in edition["changes"]:
        mark = words[0] if one["is_breaking"] else words[1]
        click.echo(f"{mark} {one['at']} {one['say'][language]}")


def _end(summary: dict[str, Any], *, is_good: bool) -> None:
    click.echo(documents.dump(summary).decode())
    sys.exit(0 if is_good else 1)


class _Hub:
    """The API of one hub."""

    def __init__(self, address: str, key: str, language: str) -> None:
        parts = urlsplit(address)
        if parts.scheme not in ("https", "http") or not parts.hostname:
            raise click.ClickException("Say the hub's address as https://hub.example.com")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        self.address, self.key, self.language = address, key, language
        self.allowed = (f"{parts.hostname}:{port}",)

    def ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """Ask the hub and return its answer; a refusal ends the command in the hub's own words."""
        headers = {
            "authorization": f"Bearer {self.key}",
            "accept": "application/json",
            "accept-language": self.language,
        }
        if body is not None:
            headers["content-type"] = "application/json"
        request = http.Request(
            method=method,
            url=f"{self.address}/api/v1/connector-editions{path}",
            headers=headers,
            body=documents.dump(body) if body is not None else b"",
            timeout_seconds=60,
            max_response_bytes=MAX_ANSWER,
        )
        # the person who types it names the hub, be it on this machine or in the office
        with settings_override(outbound_allow=self.allowed):
            answer = http.send(request)
        if isinstance(answer, http.Failure):
            raise click.ClickException(f"{self.address}: {answer.kind} {answer.detail}")
        said: Any = {}
        if answer.body:
            said = documents.parse(answer.body, max_bytes=MAX_ANSWER)
        if answer.status >= 400:
            wrong = [one["message"] for one in said.get("errors", [])]
            words = [said.get("title", ""), said.get("detail") or "", *wrong]
            raise click.ClickException(" ".join(one for one in words if one))
        found: dict[str, Any] = said
        return found

"""The bench: a vendor's folder looked at in a process of its own, with bounds it cannot lift.

`python -m connectors.publishing.bench` reads one request from its input and writes lines of JSON:
how far it is, and in the end what came out. Whatever a folder makes it do (loop, grow, crash), the
hub's own processes only see that it did not end well.
"""

import contextlib
import resource
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from connectors.engine import answers, check, fixtures, loader, requests
from connectors.engine.connector import Connector
from connectors.engine.findings import EngineError, Finding
from connectors.lab import beginning, differences, offline, validate
from connectors.publishing import archives
from kernel import documents
from kernel.errors import TooMany

SECONDS = 90
MEMORY_BYTES = 2 << 30
MAX_ANSWER = 4 << 20
PHASES = 3  # checked, tried, compared
FAILURES = 30

_PLACES = threading.BoundedSemaphore(2)  # in one process of the hub

Tell = Callable[[dict[str, Any]], None]


class Broke(Exception):  # noqa: N818 - it says what happened
    """The bench did not come to an end."""


def ask_now(request: dict[str, Any]) -> dict[str, Any]:
    """Ask for somebody who waits for it; TooMany while others wait already. Raises Broke."""
    if not _PLACES.acquire(blocking=False):
        raise TooMany
    try:
        return ask(request)
    finally:
        _PLACES.release()


def ask(request: dict[str, Any], tell: Tell | None = None) -> dict[str, Any]:
    """Look at a folder in another process and return what it said; raises Broke."""
    command = [sys.executable, "-m", "connectors.publishing.bench"]
    root = loader.HERE.parent
    process = subprocess.Popen(  # noqa: S603 - our own module, with nothing of anybody's in it
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=root
    )
    assert process.stdin is not None
    assert process.stdout is not None
    alarm = threading.Timer(SECONDS, process.kill)
    alarm.start()
    last: dict[str, Any] = {}
    try:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(documents.dump(request))
            process.stdin.close()
        while line := process.stdout.readline(MAX_ANSWER):
            last = documents.parse(line, max_bytes=MAX_ANSWER)
            if tell is not None and "done" in last and "result" not in last:
                tell(last)
    finally:
        alarm.cancel()
        process.kill()
        process.wait()
        process.stdout.close()
    if "result" not in last:
        raise Broke
    result: dict[str, Any] = last["result"]
    return result


# --- inside the process ---------------------------------------------------------------------------


def _look(request: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """Check and try a folder, and compare it with the one that was published before."""
    with tempfile.TemporaryDirectory() as place:
        folder = _folder(Path(place), request["files"])
        findings = validate.validate(folder)
        found: dict[str, Any] = {"findings": [asdict(one) for one in findings[:200]]}
        try:
            connector = loader.load(folder)
        except loader.Unfit:
            return found
        found |= _about(connector)
        tell({"done": 1, "of": PHASES})
        found["trial"] = _try(folder)
        tell({"done": 2, "of": PHASES})
        before = request.get("before")
        if before:
            found |= _compare(_folder(Path(place) / "before", before), connector)
        return found


def _folder(place: Path, files: dict[str, str]) -> Path:
    """Write a request's files into a folder named as the manifest wants it."""
    held = {name: bytes.fromhex(body) for name, body in files.items()}
    draft = place / "draft"
    archives.unpack(held, draft)
    with contextlib.suppress(loader.Unfit, TypeError, KeyError, AttributeError):
        key = str(loader.read_manifest(draft).value["connector"]["key"])
        if key.replace("-", "").isalnum() and key.isascii():
            return draft.rename(place / key)
    return draft


def _try(folder: Path) -> dict[str, Any]:
    try:
        outcomes = offline.run(folder)
    except loader.Unfit as unfit:
        outcomes = [offline.Outcome("manifest.yaml", tuple(unfit.findings))]
    failed = [one for one in outcomes if not one.is_ok]
    return {
        "passed": len(outcomes) - len(failed),
        "failed": len(failed),
        "failures": [
            {"name": one.name, "findings": [asdict(finding) for finding in one.findings[:5]]}
            for one in failed[:FAILURES]
        ],
    }


def _about(connector: Connector) -> dict[str, Any]:
    effects: dict[str, int] = {}
    for action in connector.actions.values():
        effects[action.effect] = effects.get(action.effect, 0) + 1
    return {
        "name": connector.key,
        "version": connector.version,
        "title": dict(connector.title),
        "summary": dict(connector.summary),
        "slots": list(connector.slots),
        "reach": {
            "hosts": list(connector.hosts),
            "settings_hosts": list(connector.settings_hosts),
            "effects": effects,
            "secrets": sorted(
                {
                    name
                    for way in connector.auth
                    for name, one in way.fields.items()
                    if one.is_secret
                }
            ),
            "ways": [way.kind for way in connector.auth],
            "actions": {key: one.effect for key, one in connector.actions.items()},
            "triggers": {key: one.event for key, one in connector.triggers.items()},
        },
    }


def _compare(before: Path, connector: Connector) -> dict[str, Any]:
    old = loader.load(before)
    found = differences.compare(old, connector)
    return {
        "changes": [
            {"at": one.at, "say": one.say, "is_breaking": one.is_breaking} for one in found[:200]
        ],
        "is_allowed": differences.is_allowed(old, connector, found),
    }


def _begin(request: dict[str, Any], _tell: Tell) -> dict[str, Any]:
    """Write the folder of a new connector, from an OpenAPI document when there is one."""
    with tempfile.TemporaryDirectory() as place:
        source = None
        if request.get("openapi"):
            source = Path(place) / "openapi.yaml"
            source.write_bytes(bytes.fromhex(request["openapi"]))
        folder = Path(place) / "made" / str(request["name"]).replace("/", "-")[:80]
        folder.parent.mkdir()
        try:
            draft = beginning.begin(folder, source)
        except loader.Unfit as unfit:
            return {"findings": [asdict(one) for one in unfit.findings[:50]]}
        except EngineError as no:
            return {"findings": [asdict(Finding("C01", no.say))]}
        files = {name: body.hex() for name, body in archives.of_folder(folder).items()}
        return {"files": files, "left_out": [dict(one) for one in draft.left_out]}


def _rehearse(request: dict[str, Any], _tell: Tell) -> dict[str, Any]:
    """Build the request of an action as it would be sent, and read a recorded answer; no network.

    This is what the stand-in of the app does, without a server.
    """
    with tempfile.TemporaryDirectory() as place:
        try:
            folder = check.Folder(_folder(Path(place), request["files"]))
        except loader.Unfit as unfit:
            return {"findings": [asdict(one) for one in unfit.findings[:20]]}
        key = str(request["action"])
        mine = [one for one in folder.fixtures if (one.kind, one.key) == ("action", key)]
        if key not in folder.connector.actions or not mine:
            return {"findings": [asdict(Finding("C04", _NO_EXAMPLE))]}
        chosen = next((one for one in mine if _file(one) == request.get("answer")), mine[0])
        connection = fixtures.connection_of(mine[0])
        try:
            built = requests.build(
                folder.connector, key, request["input"], connection, "eff_example"
            )
        except requests.CannotBuild as cannot:
            found = Finding("C04", cannot.say, "input", 0, cannot.pointer or "")
            return {"findings": [asdict(found)]}
        read = answers.read(folder.connector, key, fixtures.outcome_of(chosen))
        return {
            "request": fixtures.shown(built),
            "recorded": _file(chosen),
            "answer": {"kind": read.kind, "cause": read.cause, "say": read.say,
                       "output": read.output, "detail": read.detail},
        }  # fmt: skip


def _file(fixture: fixtures.Fixture) -> str:
    return f"fixtures/{fixture.name}"


_NO_EXAMPLE = {
    "zh": "没有这个动作，或它还没有录制样例",
    "en": "There is no such action, or no example of it is recorded",
}
_WORK = {"look": _look, "begin": _begin, "rehearse": _rehearse}


def answer(request: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """Do what a request says, in this process."""
    return _WORK[request["do"]](request, tell)


def main() -> None:
    """Do what the request on the input says."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 20, 64 << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def tell(line: dict[str, Any]) -> None:
        sys.stdout.buffer.write(documents.dump(line) + b"\n")
        sys.stdout.buffer.flush()

    request = documents.parse(sys.stdin.buffer.read(), max_bytes=32 << 20)
    tell({"result": answer(request, tell)})


if __name__ == "__main__":
    main()

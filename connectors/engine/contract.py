"""The contract of a connector: what flows rely on, digested, so that a change needs a version."""

import hashlib
from pathlib import Path
from typing import Any

from connectors.engine.connector import Connector
from connectors.engine.findings import Finding, say
from kernel import documents
from kernel.errors import Problem

FILE = "contract.json"


def digest(connector: Connector) -> str:
    """Return the digest of everything a saved flow or connection depends on."""
    promised = {
        "settings": connector.settings,
        "auth": {one.id: [one.kind, sorted(one.fields)] for one in connector.auth},
        "actions": {
            key: {"input": one.input, "output": one.output, "effect": one.effect}
            for key, one in connector.actions.items()
        },
        "triggers": {
            key: {
                "event": one.event,
                "version": one.version,
                "schema": one.schema,
                "dedupe": one.dedupe,
                "data": one.data,
            }
            for key, one in connector.triggers.items()
        },
    }
    return "sha256:" + hashlib.sha256(documents.dump(promised, sort_keys=True)).hexdigest()


def stated(folder: Path) -> dict[str, Any] | None:
    """Return what contract.json says, or None when it is not there or not readable."""
    try:
        value = documents.parse((folder / FILE).read_bytes())
    except (OSError, Problem):
        return None
    return value if isinstance(value, dict) else None


def findings(folder: Path, connector: Connector) -> list[Finding]:
    """Return what is wrong between contract.json and the folder."""
    kept = stated(folder)
    if kept is None:
        text = say(
            "缺少 contract.json，请运行 yangfan connector test --write-contract",
            "contract.json is missing; run: yangfan connector test --write-contract",
        )
        return [Finding("C10", text, FILE)]
    version, found = connector.version, digest(connector)
    if kept.get("contract") == found and kept.get("version") == version:
        return []
    if kept.get("version") == version:
        text = say(
            "设置、模式、触发器或去重键有变化：请先提高 connector.version",
            "Settings, schemas, triggers or dedupe keys changed: raise connector.version first",
        )
        return [Finding("C10", text, "manifest.yaml", 0, "/connector/version")]
    text = say(
        "版本已提高，请更新 contract.json（--write-contract）",
        "The version was raised; refresh contract.json (--write-contract)",
    )
    return [Finding("C10", text, FILE)]


def write(folder: Path, connector: Connector) -> bool:
    """Write contract.json; refuses (False) when the contract changed but the version did not."""
    kept = stated(folder)
    found = digest(connector)
    changed = kept is not None and kept.get("contract") != found
    if changed and kept is not None and _order(connector.version) <= _order(kept.get("version")):
        return False
    value = {"version": connector.version, "contract": found}
    (folder / FILE).write_bytes(documents.dump(value) + b"\n")
    return True


def _order(version: Any) -> tuple[int, ...]:
    parts = str(version).split(".")
    return tuple(int(part) for part in parts) if all(part.isdecimal() for part in parts) else (0,)

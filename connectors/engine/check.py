"""The rules a connector folder must keep, one function each; every message says the fix."""

from collections.abc import Callable
from pathlib import Path

from connectors.engine import (
    check_auth,
    check_files,
    check_lookups,
    check_manifest,
    check_reconcile,
    check_subscribe,
    check_thin,
    check_transports,
    contract,
    fixture_answers,
    fixtures,
    loader,
    schemas,
)
from connectors.engine.connector import Connector
from connectors.engine.findings import Finding, say
from connectors.engine.yaml_lines import Lines

Rule = Callable[["Folder"], list[Finding]]


class Folder:
    """A connector folder that could be loaded, with everything the rules look at."""

    def __init__(self, path: Path) -> None:
        """Load the folder; raises loader.Unfit."""
        self.path = path
        self.connector: Connector = loader.load(path)
        self.manifest: Lines = loader.read_manifest(path)
        self.fixtures, self.broken_fixtures = fixtures.load(path)

    def finding(self, rule: str, zh: str, en: str, at: str = "") -> Finding:
        """Return a finding in the manifest."""
        return Finding(rule, say(zh, en), "manifest.yaml", self.manifest.line(at), at)


def check(path: Path) -> list[Finding]:
    """Return every broken rule of a folder that its manifest does not exempt."""
    try:
        folder = Folder(path)
    except loader.Unfit as unfit:
        return unfit.findings
    unsound = c01_manifest(folder)
    if unsound:
        return unsound  # the other rules build requests, which needs templates that compile
    exempt = folder.connector.exempt
    return [
        finding
        for name, rule in RULES.items()
        if name not in exempt or name in ("C08", "C09")
        for finding in rule(folder)
    ]


def c01_manifest(folder: Folder) -> list[Finding]:
    """Every template compiles and reads only what is there."""
    return [
        *check_manifest.findings(folder.connector, folder.manifest),
        *check_auth.findings(folder.connector, folder.manifest),
        *check_reconcile.findings(folder.connector, folder.manifest),
        *check_subscribe.findings(folder.connector, folder.manifest),
        *check_lookups.findings(folder.connector, folder.manifest),
        *check_thin.findings(folder.connector, folder.manifest),
        *check_transports.findings(folder.connector, folder.manifest),
    ]


def c02_key(folder: Folder) -> list[Finding]:
    """The folder is named after the connector."""
    key = folder.connector.key
    if folder.path.name == key:
        return []
    return [
        folder.finding(
            "C02",
            f"文件夹须改名为 {key}（现在是 {folder.path.name}）",
            f"Rename the folder to {key} (it is {folder.path.name})",
            "/connector/key",
        )
    ]


def c03_schemas(folder: Folder) -> list[Finding]:
    """Every action and trigger says what goes in and comes out."""
    found: list[Finding] = []
    for key, action in folder.connector.actions.items():
        found += [
            folder.finding(
                "C03",
                f"动作 {key} 的 {side} 须是写明字段的对象模式",
                f"The {side} of the action {key} must be an object schema that names its fields",
                f"/actions/{key}/{side}",
            )
            for side, schema in (("input", action.input), ("output", action.output))
            if "object" not in schemas.kinds(schema) or "properties" not in schema
        ]
    for key, trigger in folder.connector.triggers.items():
        if trigger.schema is None and check_manifest.canonical(trigger) is None:
            found.append(
                folder.finding(
                    "C03",
                    f"{trigger.event} 不是平台的标准事件，请写 schema",
                    f"{trigger.event} is not an event type of the hub; give it a schema",
                    f"/triggers/{key}",
                )
            )
    return found


def c04_requests(folder: Folder) -> list[Finding]:
    """Every action, trigger and lifecycle step has a fixture, and its request is built exactly."""
    connector, found = folder.connector, list(folder.broken_fixtures)
    sent = {key: one for key, one in connector.triggers.items() if not one.every}
    parts = {"action": connector.actions, "trigger": sent}
    own = {way.id: way for way in connector.auth if way.steps and not way.steps[0].request.url}
    every = {
        **parts,
        "lifecycle": connector.lifecycle,
        "reconcile": connector.triggers,
        "token": own,
    }
    shown = {(one.kind, one.key) for one in folder.fixtures}
    for kind, keys in every.items():
        found += [
            folder.finding(
                "C04",
                f"{kind} {key} 缺少样例，请添加 fixtures/{key}.ok.yaml",
                f"The {kind} {key} has no fixture; add fixtures/{key}.ok.yaml",
                {"lifecycle": f"/lifecycle/{key}", "token": "/auth"}.get(kind, f"/{kind}s/{key}"),
            )
            for key in keys
            if (kind, key) not in shown and kind != "reconcile"
        ]
    found += _unshown_looks(folder)
    for one in folder.fixtures:
        if one.kind == "reconcile" and not fixtures.reconcile_of(connector, one):
            text = say(f"触发器 {one.key} 没有 reconcile", f"{one.key} has no reconcile")
            found.append(one.finding("C04", text, "/reconcile"))
        elif one.key not in every[one.kind]:
            text = say(f"没有 {one.kind} {one.key}", f"There is no {one.kind} {one.key}")
            found.append(one.finding("C04", text, f"/{one.kind}"))
        elif one.kind != "trigger":
            found += fixtures.check_request(connector, one)
    return found


def _unshown_looks(folder: Folder) -> list[Finding]:
    """Each way to look for missing events has a fixture of its list, and of asking again."""
    looks = [one for one in folder.fixtures if one.kind == "reconcile"]
    connector, found, seen = folder.connector, [], []
    for key, trigger in connector.triggers.items():
        if trigger.reconcile is None or trigger.reconcile in seen:
            continue
        seen.append(trigger.reconcile)
        shown = {
            fixtures.step_of(one)
            for one in looks
            if fixtures.reconcile_of(connector, one) == trigger.reconcile
        }
        wanted = {"list", "redeliver"} if trigger.reconcile.redeliver else {"list"}
        found += [
            folder.finding(
                "C04",
                f"补查 {step} 缺少样例，请添加 fixtures/{key}.{step}.yaml",
                f"Looking for missing events ({step}) has no fixture; add "
                f"fixtures/{key}.{step}.yaml",
                f"/triggers/{key}",
            )
            for step in sorted(wanted - shown)
        ]
    return found


def c05_answers(folder: Folder) -> list[Finding]:
    """Every recorded response or delivery reads as the fixture expects."""
    found: list[Finding] = []
    connector = folder.connector
    for one in folder.fixtures:
        if one.kind == "trigger" and one.key in connector.triggers:
            found += fixtures.check_delivery(connector, one)
        elif one.kind == "reconcile" and fixtures.reconcile_of(connector, one):
            found += fixtures.check_look(connector, one)
        elif one.kind == "token" and connector.auth_by_id(one.key):
            found += fixtures.check_token(connector, one)
        elif one.key in (connector.actions if one.kind == "action" else connector.lifecycle):
            found += fixture_answers.check_answer(connector, one)
    return found


def c06_unused(folder: Folder) -> list[Finding]:
    """No file lies around that nothing uses."""
    return check_files.unused(folder.path, folder.manifest)


def c07_readme(folder: Folder) -> list[Finding]:
    """README.md says the same in Chinese and English, Chinese first."""
    return check_files.readme(folder.path)


def c08_secrets(folder: Folder) -> list[Finding]:
    """No file holds anything that looks like a real secret."""
    return check_files.secrets(folder.path)


def c09_hosts(folder: Folder) -> list[Finding]:
    """Requests go only to hosts the manifest fixes or a declared setting names."""
    return check_manifest.hosts(folder.connector, folder.manifest)


def c10_version(folder: Folder) -> list[Finding]:
    """A changed contract has a new version and a fresh contract.json."""
    return contract.findings(folder.path, folder.connector)


def c11_samples(folder: Folder) -> list[Finding]:
    """Every sample fits its schema."""
    return check_manifest.samples(folder.connector, folder.manifest)


def c12_icon(folder: Folder) -> list[Finding]:
    """The icon is a small SVG that cannot do anything but be drawn."""
    return check_files.icon(folder.path)


def c13_todos(folder: Folder) -> list[Finding]:
    """Nothing is left to be written."""
    return check_files.todos(folder.path)


RULES: dict[str, Rule] = {
    "C01": c01_manifest,
    "C02": c02_key,
    "C03": c03_schemas,
    "C04": c04_requests,
    "C05": c05_answers,
    "C06": c06_unused,
    "C07": c07_readme,
    "C08": c08_secrets,
    "C09": c09_hosts,
    "C10": c10_version,
    "C11": c11_samples,
    "C12": c12_icon,
    "C13": c13_todos,
}

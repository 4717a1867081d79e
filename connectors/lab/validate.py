"""Validation of a connector folder, for `yangfan connector validate` and release reviews."""

from pathlib import Path

from connectors.engine import check, contract, loader
from connectors.engine.findings import Finding


def validate(folder: Path) -> list[Finding]:
    """Return every broken rule of a folder; [] means it may be published."""
    return check.check(folder.resolve())


def report(findings: list[Finding], language: str = "zh") -> str:
    """Return the findings as text, one a line, and a closing line with their number."""
    if not findings:
        return {"zh": "全部规则通过", "en": "Every rule is kept"}[language]
    lines = [finding.plain(language) for finding in findings]
    end = {"zh": f"共 {len(findings)} 个问题", "en": f"{len(findings)} findings"}[language]
    return "\n".join([*lines, end])


def write_contract(folder: Path) -> bool:
    """Refresh contract.json; False when the contract changed and the version did not."""
    return contract.write(folder, loader.load(folder.resolve()))

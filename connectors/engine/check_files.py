"""Rules about a connector folder's files: nothing unused, nothing secret, a page and a picture."""

import base64
import re
from pathlib import Path
from typing import Any
from xml.parsers import expat

from connectors.engine.findings import Finding, say
from connectors.engine.loader import files
from connectors.engine.yaml_lines import Lines

MAX_ICON_BYTES = 8 * 1024
SECTIONS_ZH = ("## 能做什么", "## 如何连接", "## 限制")
SECTIONS_EN = ("## What it does", "## How to connect", "## Limits")
KNOWN = {"manifest.yaml", "README.md", "icon.svg", "contract.json"}
_DRAWING = {
    "svg", "g", "path", "rect", "circle", "ellipse", "line", "polyline", "polygon", "title",
    "desc", "defs", "linearGradient", "radialGradient", "stop", "clipPath",
}  # fmt: skip
_SHAPES = (
    r"\bsk_(?:live|test)_[A-Za-z0-9]{8,}",
    r"\bgh[pousr]_[A-Za-z0-9]{20,}",
    r"\bgithub_pat_[A-Za-z0-9_]{20,}",
    r"\bAKIA[0-9A-Z]{16}\b",
    r"\bLTAI[0-9A-Za-z]{12,}",
    r"\bAKID[0-9A-Za-z]{13,}",
    r"\bwhsec_[A-Za-z0-9+/=]{16,}",
    r"\bxox[abpors]-[A-Za-z0-9-]{10,}",
    r"\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.",
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    r"(?:Bearer|Basic) +[A-Za-z0-9+/_=.-]{20,}",
    (
        r"(?i:secret|password|api_?key|access_?token)[\"']?\s*[:=]\s*[\"']?"
        r"(?=[A-Za-z0-9+/_=-]*[0-9])(?=[A-Za-z0-9+/_=-]*[A-Za-z])[A-Za-z0-9+/_=-]{20,}"
    ),
)
_SECRET = re.compile("|".join(_SHAPES))
_TODO = re.compile(r"(?<![A-Za-z0-9_])TODO(?![A-Za-z0-9_])")


def unused(folder: Path, manifest: Lines) -> list[Finding]:
    """Return files nothing refers to."""
    used = {name for name in _references(manifest.value) if name.startswith("schemas/")}
    found: list[Finding] = []
    for path in files(folder):
        name = path.relative_to(folder).as_posix()
        if name in KNOWN or name in used or re.fullmatch(r"fixtures/[^/]+\.yaml", name):
            continue
        text = say("没有任何地方用到这个文件，请删除", "Nothing uses this file; please remove it")
        found.append(Finding("C06", text, name))
    return found


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [name for one in value.values() for name in _references(one)]
    if isinstance(value, list):
        return [name for one in value for name in _references(one)]
    return []


def readme(folder: Path) -> list[Finding]:
    """Return what the page lacks."""
    path = folder / "README.md"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    places = []
    found: list[Finding] = []
    for section in SECTIONS_ZH + SECTIONS_EN:
        match = re.search(rf"^{re.escape(section)}\s*$(?P<body>[^#]*)", text, re.MULTILINE)
        if match is None or not match["body"].strip():
            found.append(
                Finding(
                    "C07",
                    say(f"README 缺少有内容的“{section}”", f"README lacks a filled “{section}”"),
                    "README.md",
                )
            )
        else:
            places.append(match.start())
    if not found and places != sorted(places):
        text_order = say("中文在前，英文在后", "Chinese comes first, then English")
        found.append(Finding("C07", text_order, "README.md"))
    return found


def secrets(folder: Path) -> list[Finding]:
    """Return every line that looks like it holds a real secret."""
    found: list[Finding] = []
    for path in files(folder):
        name = path.relative_to(folder).as_posix()
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        found += [
            Finding(
                "C08",
                say(
                    "这里像是一个真实的密钥，请换成 example 并立即作废原密钥",
                    "This looks like a real secret; write “example” instead and revoke it",
                ),
                name,
                number,
            )
            for number, line in enumerate(lines, 1)
            if any(not _is_example(one[0]) for one in _SECRET.finditer(line))
        ]
    return found


def _is_example(found: str) -> bool:
    """Tell whether what looks like a secret is user name and the password “example” in base64."""
    kind, _, text = found.partition(" ")
    try:
        pair = base64.b64decode(text.strip(), validate=True) if kind == "Basic" else b""
    except ValueError:
        return False
    return pair.endswith(b":example")


def todos(folder: Path) -> list[Finding]:
    """Return every line that still waits for its author."""
    found: list[Finding] = []
    for path in files(folder):
        name = path.relative_to(folder).as_posix()
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        for number, line in enumerate(lines, 1):
            if _TODO.search(line):
                shown = line.strip()[:80]
                text = say(f"还没有写完：{shown}", f"This is still to be written: {shown}")
                found.append(Finding("C13", text, name, number))
    return found


def icon(folder: Path) -> list[Finding]:
    """Return what is wrong with the picture."""
    path = folder / "icon.svg"
    if not path.is_file():
        return [Finding("C12", say("缺少 icon.svg", "icon.svg is missing"), "icon.svg")]
    raw = path.read_bytes()
    if len(raw) > MAX_ICON_BYTES:
        text = say("图标超过 8 KiB", "The icon is over 8 KiB")
        return [Finding("C12", text, "icon.svg")]
    problems: list[Finding] = []
    parser = expat.ParserCreate()

    def refuse(zh: str, en: str) -> None:
        line = parser.CurrentLineNumber
        problems.append(Finding("C12", say(zh, en), "icon.svg", line))

    def start(name: str, attributes: dict[str, str]) -> None:
        if name not in _DRAWING:
            refuse(f"图标里不能有 <{name}>", f"The icon may not hold <{name}>")
        for key, value in attributes.items():
            far = key.endswith("href") or re.search(r"url\(\s*[^#\s]|javascript:|data:", value)
            if key.lower().startswith("on") or far or key == "style":
                refuse(f"图标里不能有属性 {key}", f"The icon may not have the attribute {key}")

    parser.StartElementHandler = start
    parser.StartDoctypeDeclHandler = lambda *_: refuse("不能有 DOCTYPE", "No DOCTYPE please")
    parser.ProcessingInstructionHandler = lambda *_: refuse("不能有处理指令", "No instructions")
    try:
        parser.Parse(raw, True)
    except expat.ExpatError as broken:
        text = say(f"不是有效的 SVG：{broken}", f"This is not valid SVG: {broken}")
        return [Finding("C12", text, "icon.svg", broken.lineno)]
    if not re.search(rb"<svg[^>]*\sviewBox=", raw):
        refuse("图标须有 viewBox", "The icon needs a viewBox")
    return problems

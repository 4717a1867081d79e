"""The laws that can be read off the source: each takes parsed modules and returns what breaks it.

A law returns messages that tell the fix. tests/house/test_laws.py runs each on the house, and on a
piece of code that breaks it on purpose.
"""

import ast
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

Module = tuple[str, ast.Module]  # name as said, syntax tree

FORBIDDEN_NAMES = {
    "service",
    "services",
    "utils",
    "util",
    "helper",
    "helpers",
    "common",
    "misc",
    "manager",
    "managers",
    "base",
    "core",
}
KERNEL_FILES = {
    "addresses",
    "columns",
    "rows",
    "__init__",
    "settings",
    "database",
    "ids",
    "clock",
    "errors",
    "tenancy",
    "outbox",
    "queue",
    "http",
    "vault",
    "web",
    "log",
    "documents",
}
MODULE_LINES, FUNCTION_LINES = 400, 60
# modules that may act for every tenant at once: claims, sweeps, the edge's look-ups by token
COMMIT_HOME = "kernel/database.py"


def forbidden_names(paths: Iterable[Path]) -> list[str]:
    """No drawer is called by what it holds for lack of a better name."""
    return [
        f"{p}: name the noun it is about instead of '{p.stem}'"
        for p in paths
        if p.stem in FORBIDDEN_NAMES
    ]


def frozen_kernel(stems: Iterable[str]) -> list[str]:
    """The kernel's list of files changes by a decision record alone."""
    return [
        f"kernel/{stem}.py: write docs/decisions/ first, then add it to KERNEL_FILES"
        for stem in sorted(set(stems) ^ KERNEL_FILES)
    ]


def module_sizes(texts: dict[str, str]) -> list[str]:
    """No module is longer than a person can hold in mind."""
    return [
        f"{name}: {len(text.splitlines())} lines; two nouns live here, split them"
        for name, text in texts.items()
        if len(text.splitlines()) > MODULE_LINES
    ]


def function_sizes(modules: Iterable[Module]) -> list[str]:
    """No function is longer than a screen."""
    return [
        f"{name}:{node.lineno} {node.name} has {node.end_lineno - node.lineno + 1} lines"
        for name, tree in modules
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno - node.lineno + 1 > FUNCTION_LINES
    ]


def commits(modules: Iterable[Module]) -> list[str]:
    """Only the edge commits."""
    return [
        f"{name}:{node.lineno} commits; open kernel.database.transaction() at the edge instead"
        for name, tree in modules
        if name != COMMIT_HOME
        for node in _calls(tree)
        if isinstance(node.func, ast.Attribute) and node.func.attr == "commit"
    ]


def nouns_know_no_edge(modules: Iterable[Module]) -> list[str]:
    """Noun modules know neither HTTP nor the queue."""
    return [
        f"{name}:{line} imports {module}; move that line to routes, pages or tasks"
        for name, tree in modules
        for line, module in _imports(tree)
        if module.split(".")[0] in {"flask", "celery", "werkzeug", "flask_babel"}
    ]


def hidden_imports(modules: Iterable[Module], slow: set[str] = frozenset()) -> list[str]:
    """Imports stand at the top of a module: one inside a function hides a cycle.

    `slow` names `module:function`s that put a heavy import off, and say so.
    """
    return [
        f"{name}:{child.lineno} imports inside {node.name}; untangle the cycle instead"
        for name, tree in modules
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and f"{name}:{node.name}" not in slow
        for child in ast.walk(node)
        if isinstance(child, ast.Import | ast.ImportFrom)
    ]


def outbound_only_through_kernel(modules: Iterable[Module]) -> list[str]:
    """Whoever calls out goes through kernel.http and its guard."""
    clients = {
        "requests", "httpx", "urllib3", "aiohttp", "pycurl", "socket", "smtplib", "imaplib",
        "poplib", "ftplib", "paramiko", "asyncssh", "websockets",
    }  # fmt: skip
    # decision 0018: these speak over a socket that kernel.addresses opened for them
    wires = {
        "connectors/transports/smtp.py": "smtplib",
        "connectors/transports/imap.py": "imaplib",
        "connectors/transports/sftp.py": "paramiko",
        "connectors/streams/listening.py": "websockets",
    }
    return [
        f"{name}:{line} imports {module}; call out through kernel.http"
        for name, tree in modules
        if name not in ("kernel/http.py", "kernel/addresses.py")
        for line, module in _imports(tree)
        if module.split(".")[0] in clients or module in {"urllib.request", "http.client"}
        if wires.get(name) != module.split(".")[0]
    ]


def no_waiting_in_celery(modules: Iterable[Module]) -> list[str]:
    """Waits are rows with next_at; Celery gets no ETA, countdown, retry or chord."""
    found = []
    for name, tree in modules:
        for node in _calls(tree):
            words = {k.arg for k in node.keywords} & {"countdown", "eta"}
            called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            chord = isinstance(node.func, ast.Name) and node.func.id in {"chord", "chain"}
            if words or chord or called == "apply_async":
                found.append(f"{name}:{node.lineno} lets Celery wait or carry; write a row instead")
    return found


def clock_only(modules: Iterable[Module]) -> list[str]:
    """The time comes from kernel.clock, so that tests can move it."""
    return [
        f"{name}:{node.lineno} asks {node.func.attr}(); use kernel.clock.now()"
        for name, tree in modules
        if name != "kernel/clock.py"
        for node in _calls(tree)
        if isinstance(node.func, ast.Attribute)
        and node.func.attr in {"now", "utcnow", "today"}
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id in {"datetime", "date"}
    ]


def environment_only_in_settings(modules: Iterable[Module]) -> list[str]:
    """Only kernel/settings.py reads the environment."""
    return [
        f"{name}:{node.lineno} reads the environment; add a field to Settings"
        for name, tree in modules
        if name != "kernel/settings.py"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr in {"environ", "getenv"}
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
    ]


def tenant_in_every_query(
    modules: Iterable[Module], owned: set[str], system: set[str]
) -> list[str]:
    """A tenant's table is selected through `.of(organization_id)` or with its organization named.

    `system` lists the modules, and `module:function`s, whose work is to look over all tenants.
    """
    found = []
    for name, tree in modules:
        if name in system:
            continue
        for function in ast.walk(tree):
            if not isinstance(function, ast.FunctionDef):
                continue
            if f"{name}:{function.name}" in system:
                continue
            names_tenant = "organization_id" in ast.unparse(function)
            for node in _calls(function):
                if not (
                    isinstance(node.func, ast.Name)
                    and node.func.id in {"select", "update", "delete"}
                ):
                    continue
                first = ast.unparse(node.args[0]).split(".")[0].split("(")[-1] if node.args else ""
                if first in owned and not names_tenant:
                    found.append(
                        f"{name}:{node.lineno} reads {first} without an organization; "
                        f"use {first}.of(organization_id)"
                    )
    return found


def unique_table_names(modules: Iterable[Module]) -> list[str]:
    """One word, one thing: no two tables share a class name."""
    names = Counter(
        node.name
        for _, tree in modules
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        and any(k.arg == "table" and getattr(k.value, "value", False) for k in node.keywords)
    )
    return [f"two tables are called {name}; rename one" for name, n in names.items() if n > 1]


def tables_validate_at_the_border(modules: Iterable[Module], tables: set[str]) -> list[str]:
    """No table row is built straight from a request body."""
    return [
        f"{name}:{node.lineno} builds {ast.unparse(node.func)} from **{ast.unparse(k.value)}; "
        "validate it in a …In model and assign"
        for name, tree in modules
        for node in _calls(tree)
        if isinstance(node.func, ast.Name) and node.func.id in tables
        for k in node.keywords
        if k.arg is None
        and any(w in ast.unparse(k.value) for w in ("body", "request", "json", "form"))
    ]


def unsafe_readers(modules: Iterable[Module]) -> list[str]:
    """Nothing of a stranger's is evaluated, unpickled or loaded as live YAML."""
    found = []
    for name, tree in modules:
        for node in _calls(tree):
            said = ast.unparse(node.func)
            if said in {"eval", "exec", "yaml.load", "pickle.loads", "pickle.load", "compile"}:
                found.append(f"{name}:{node.lineno} calls {said}")
        found += [
            f"{name}:{line} imports {module}"
            for line, module in _imports(tree)
            if module == "pickle"
        ]
    return found


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def _imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.lineno, node.module

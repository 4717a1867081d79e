"""Every law read off the source: the house keeps it, and a deliberate break is caught."""

import ast
import importlib
from pathlib import Path

import pytest
from house import laws, reading

# Modules whose work is to look over every tenant at once: claims, sweeps and look-ups by a secret.
# Each opens its session with EVERY, and each names its reason in its own docstring.
SYSTEM_MODULES = {
    "webhooks/leases.py",
    "webhooks/drain.py",
    "webhooks/fan_out.py",
    "webhooks/attempts.py",
    "webhooks/addresses.py",
    "webhooks/keeping/turns.py",
    "connectors/routing.py",
    "connectors/advance.py",
    "connectors/claims.py",
    "connectors/sheets/turns.py",
    "connectors/streams/holds.py:claim",
    "connectors/streams/holds.py:release",
    "connectors/streams/listening.py",
    "marketplace/rollouts.py",
    "marketplace/seed.py",
    "identity/api_keys.py",
    "identity/invitations.py",
    "marketplace/home.py:_median_install_seconds",  # a figure over all, shown to visitors
}


def parsed(*packages):
    return [(reading.name(p), reading.tree(p)) for p in reading.modules(*packages)]


def nouns():
    return [
        (reading.name(p), reading.tree(p))
        for p in reading.modules("identity", "catalog", "webhooks", "connectors", "marketplace")
        if reading.is_noun(p)
    ]


def code(text, name="webhooks/broken.py"):
    return [(name, ast.parse(text))]


def owned_classes():
    from kernel.tenancy import Owned

    for path in reading.modules(*reading.PACKAGES[1:]):
        if path.name == "tables.py":
            importlib.import_module(reading.name(path).removesuffix(".py").replace("/", "."))

    def below(kind):
        for child in kind.__subclasses__():
            yield child
            yield from below(child)

    return {child.__name__ for child in below(Owned)}


def table_classes():
    from sqlmodel import SQLModel

    owned_classes()
    return {m.class_.__name__ for m in SQLModel._sa_registry.mappers}


LAWS = {
    "function sizes": (
        lambda: laws.function_sizes(parsed()),
        lambda: laws.function_sizes(code("def long():\n" + "    pass\n" * 61)),
    ),
    "module sizes": (
        lambda: laws.module_sizes({reading.name(p): p.read_text() for p in reading.modules()}),
        lambda: laws.module_sizes({"webhooks/broken.py": "x = 1\n" * 401}),
    ),
    "names": (
        lambda: laws.forbidden_names(reading.modules()),
        lambda: laws.forbidden_names([Path("webhooks/utils.py")]),
    ),
    "frozen kernel": (
        lambda: laws.frozen_kernel(p.stem for p in (reading.ROOT / "kernel").glob("*.py")),
        lambda: laws.frozen_kernel(laws.KERNEL_FILES | {"installations"}),
    ),
    "one commit": (
        lambda: laws.commits(parsed()),
        lambda: laws.commits(code("def f(session):\n    session.commit()")),
    ),
    "nouns know no edge": (
        lambda: laws.nouns_know_no_edge(nouns()),
        lambda: laws.nouns_know_no_edge(code("from flask import request")),
    ),
    "imports at the top": (
        lambda: laws.hidden_imports(
            parsed(),
            # a hub's watcher imports nothing of the hub, and one on SQLite no PostgreSQL driver
            {
                "catalog/search.py:pinyin_words",
                "kernel/database.py:_connect_postgres",
                "marketplace/cli.py:main",
                "marketplace/cli.py:_run",
            },
        ),
        lambda: laws.hidden_imports(code("def f():\n    import identity.members")),
    ),
    "outbound through the guard": (
        lambda: [
            m
            for m in laws.outbound_only_through_kernel(parsed())
            # the demo vendors are not the hub: a process of their own that plays the other side,
            # and starting it asks whether its ports are free
            if not m.startswith(("connectors/lab/", "marketplace/demo_vendors.py"))
        ],
        lambda: laws.outbound_only_through_kernel(code("import requests")),
    ),
    "no waiting in Celery": (
        lambda: laws.no_waiting_in_celery(parsed()),
        lambda: laws.no_waiting_in_celery(code("task.apply_async(args=[1], countdown=60)")),
    ),
    "one clock": (
        lambda: laws.clock_only(parsed()),
        lambda: laws.clock_only(code("from datetime import datetime\nx = datetime.now()")),
    ),
    "one environment": (
        lambda: [
            m
            for m in laws.environment_only_in_settings(parsed())
            # a child process inherits its parent's environment, which is not a setting
            if not m.startswith(("marketplace/demo_vendors.py", "connectors/lab/"))
        ],
        lambda: laws.environment_only_in_settings(code("import os\nx = os.environ['HOME']")),
    ),
    "tenant in every query": (
        lambda: laws.tenant_in_every_query(nouns(), owned_classes(), SYSTEM_MODULES),
        lambda: laws.tenant_in_every_query(
            code("def all_events(session):\n    return session.exec(select(Event))"),
            {"Event"},
            set(),
        ),
    ),
    "one word, one thing": (
        lambda: laws.unique_table_names(parsed()),
        lambda: laws.unique_table_names(
            code("class Run(Owned, table=True): pass\nclass Run(Table, table=True): pass")
        ),
    ),
    "border": (
        lambda: laws.tables_validate_at_the_border(parsed(), table_classes()),
        lambda: laws.tables_validate_at_the_border(code("Endpoint(**body)"), {"Endpoint"}),
    ),
    "nothing evaluated": (
        lambda: [
            m
            for m in laws.unsafe_readers(nouns())
            # our own expression compiler is a function of that name, not Python's
            if "calls compile" not in m
        ],
        lambda: laws.unsafe_readers(code("eval(text)")),
    ),
}


@pytest.mark.parametrize("law", LAWS)
def test_the_house_keeps_the_law(law):
    assert LAWS[law][0]() == []


@pytest.mark.parametrize("law", LAWS)
def test_a_deliberate_break_is_caught(law):
    assert LAWS[law][1]()

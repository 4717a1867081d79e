"""Laws about the built application and the papers beside it."""

import dataclasses
import re

import pytest
import yaml
from flask import Flask
from house.reading import ROOT, modules, tracked

from catalog import event_types
from kernel import outbox, queue
from kernel.settings import Settings, read_settings
from webhooks import drain, events, fan_out, workers


@pytest.fixture(scope="module")
def built():
    from marketplace.app import create_app

    return create_app()


def hooks():
    """How many hang on each of the process's hook lists."""
    lists = (
        fan_out.ROUTERS, drain.STAGES, workers.HOLDERS, outbox.DOORS, queue.SWEEPS,
        queue.HEARERS, event_types.PROVIDERS, events.TRACES,
    )  # fmt: skip
    return [len(one) for one in lists]


def test_another_application_hangs_up_no_hook_twice(built):
    from marketplace.app import create_app

    before = hooks()
    assert all(before)
    create_app()
    assert hooks() == before


def guarded(app: Flask):
    """Name the endpoints that are neither required nor public."""
    return [
        rule.endpoint
        for rule in app.url_map.iter_rules()
        if getattr(app.view_functions[rule.endpoint], "access", None) is None
    ]


def test_every_route_is_guarded_or_public(built):
    assert guarded(built) == []


def test_an_unguarded_route_is_caught():
    app = Flask("broken")
    app.add_url_rule("/open", "open", lambda: "all your rows")
    assert "open" in guarded(app)


def test_every_json_route_is_described(built):
    """A JSON route without @operation would be missing from the OpenAPI document."""
    missing = [
        rule.rule
        for rule in built.url_map.iter_rules()
        if rule.rule.startswith("/api/v1/")
        and not hasattr(built.view_functions[rule.endpoint], "operation")
        and rule.rule != "/api/v1/openapi.json"
    ]
    assert missing == []


def setting_names():
    return [f.metadata["env"] for f in dataclasses.fields(Settings)]


def test_settings_equal_the_example_and_the_docs():
    example = re.findall(r"^#? ?(YANGFAN_\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
    docs = re.findall(r"^\| `(YANGFAN_\w+)`", (ROOT / "docs/settings.md").read_text(), re.MULTILINE)
    assert example == setting_names()
    assert docs == setting_names()


def test_an_unknown_setting_is_refused():
    with pytest.raises(SystemExit, match="YANGFAN_DATABSE_URL"):
        read_settings({"YANGFAN_DATABSE_URL": "sqlite:///typo.db"})


def test_compose_and_procfile_run_the_same_commands():
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    composed = {name: s["command"] for name, s in compose.items() if "command" in s}
    lines = (ROOT / "Procfile").read_text().splitlines()
    assert composed == dict(line.split(": ", 1) for line in lines)


def test_tasks_are_named_after_their_package_and_use_the_one_queue(built):
    ours = [name for name in queue.celery.tasks if not name.startswith("celery.")]
    assert ours
    for name in ours:
        task = queue.celery.tasks[name]
        assert re.fullmatch(r"(identity|catalog|webhooks|connectors|marketplace)\.[a-z_]+", name)
        assert task.__module__.split(".")[0] == name.split(".")[0]
        assert getattr(task, "queue", None) is None, (
            "every worker listens to the default queue alone"
        )
    assert queue.celery.conf.task_default_queue == "yangfan"


def test_celery_keeps_the_laws(built):
    conf = queue.celery.conf
    assert conf.task_acks_late
    assert conf.task_reject_on_worker_lost
    assert conf.worker_prefetch_multiplier == 1
    assert conf.task_ignore_result
    assert not conf.result_backend
    assert list(conf.accept_content) == ["json"]


def test_no_third_party_file_is_tracked():
    bad = [
        path
        for path in tracked()
        if re.search(r"\.min\.(js|css)$|(^|/)node_modules/|\.bundle\.js$|\.mo$", path)
    ]
    assert bad == []


def test_lock_files_name_no_registry():
    for name in (
        "requirements.txt",
        "requirements-dev.txt",
        "requirements-node.txt",
        "package-lock.json",
    ):
        text = (ROOT / name).read_text()
        assert "://" not in re.sub(r'"(url|funding)": "[^"]*"', "", text), name
        if name.endswith(".txt"):
            assert "--hash=sha256:" in text


def test_every_decision_is_short_and_whole():
    for path in sorted((ROOT / "docs/decisions").glob("*.md")):
        text = path.read_text()
        assert len(text.splitlines()) <= 60, path.name
        for part in ("## Context", "## Decision", "## Consequences"):
            assert part in text, f"{path.name} lacks {part}"


def test_the_hub_needs_nothing_that_only_the_tests_install():
    """`make run` installs requirements.txt alone."""
    names = re.findall(
        r"^([A-Za-z][\w-]*)", (ROOT / "requirements-dev.in").read_text(), re.MULTILINE
    )
    dev = {name.replace("-", "_").lower() for name in names}
    for path in [*modules(), *sorted((ROOT / "bench").glob("*.py"))]:
        imported = re.findall(r"^\s*(?:from|import) (\w+)", path.read_text(), re.MULTILINE)
        assert not dev & {one.lower() for one in imported}, path

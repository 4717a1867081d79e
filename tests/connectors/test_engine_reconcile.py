"""What a manifest says of missing events: its rules, and how lists are read."""

import shutil
from datetime import UTC, datetime

import pytest

from connectors.engine import loader, reconcile
from connectors.lab import validate


@pytest.fixture
def folder(tmp_path):
    def copied(key):
        shutil.copytree(loader.LIBRARY / key, tmp_path / key)
        return tmp_path / key

    return copied


def broken(folder, before, after, name="manifest.yaml"):
    text = (folder / name).read_text(encoding="utf-8")
    assert before in text
    (folder / name).write_text(text.replace(before, after, 1), encoding="utf-8")
    return [one for one in validate.validate(folder) if one.rule not in ("C06", "C10")]


SHARED = "/defaults/trigger/reconcile"
BREAKS = [
    ("demo-shop", "C01", "kind: objects", "kind: guesses", f"{SHARED}/kind"),
    ("demo-shop", "C01", "keeps_hours: 720", "keeps_hours: 0", f"{SHARED}/keeps_hours"),
    ("demo-shop", "C01", "kind: objects", "kind: deliveries", SHARED),
    ("github", "C01", "kind: deliveries", "kind: objects", SHARED),
    ("demo-shop", "C01", '"${look.since}"', '"${look.sinse}"', f"{SHARED}/list/request/query"),
    ("demo-shop", "C01", '"${look.since}"', '"2026"', f"{SHARED}/list/request"),
    ("demo-shop", "C01", '{optional: "${look.page}"}', '"1"', f"{SHARED}/list/next"),
    ("demo-shop", "C01", '"${body.changes}"', '"${item.changes}"', f"{SHARED}/list"),
    ("demo-shop", "C01", '"${item.type}"', '"${event.type}"', f"{SHARED}/event"),
    ("demo-shop", "C01", "webhook-id: \"${item", "webhook-di: \"${item", f"{SHARED}/event"),
    ("github", "C01", "${input.hook_id}", "${input.hook}", f"{SHARED}/list/request/path"),
    ("github", "C01", "${look.id}", "${look.guid}", f"{SHARED}/redeliver/request/path"),
    ("github", "C01", '"${item.guid}"', '"${item.guid ==}"', f"{SHARED}/delivery/message_id"),
    ("github", "C01", "dedupe: {header: x-github-delivery}", "dedupe: {pointer: /id}",
     f"{SHARED}/kind"),
    ("github", "C01", "do: fail\n          class: config", "do: wave\n          class: config",
     f"{SHARED}/errors/0/do"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("key", "rule", "before", "after", "pointer"), BREAKS, ids=[one[2] for one in BREAKS]
)
def test_a_broken_rule_is_named_with_line_pointer_and_cure(
    folder, key, rule, before, after, pointer
):
    found = broken(folder(key), before, after)
    there = [one for one in found if one.rule == rule and one.pointer.startswith(pointer)]
    assert there, [one.plain() for one in found]
    for one in there:
        assert one.file == "manifest.yaml"
        assert one.line > 1
        assert one.say["zh"] != one.say["en"]


def test_what_triggers_share_is_told_once(folder):
    found = broken(folder("github"), "${input.hook_id}/deliveries", "${input.hook}/deliveries")
    assert len(found) == 1


def test_a_place_for_another_kind_is_said_to_be_none(folder):
    found = broken(folder("github"), "keeps_hours: 72", "keeps_hours: 72\n      event: {body: 1}")
    assert [(one.pointer, one.say["en"]) for one in found] == [
        (f"{SHARED}/event", "This has no place here")
    ]


@pytest.mark.parametrize("name", ["push.list.yaml", "push.redeliver.yaml"])
def test_each_call_of_a_look_needs_a_fixture(folder, name):
    copy = folder("github")
    (copy / "fixtures" / name).unlink()
    if name == "push.list.yaml":
        (copy / "fixtures" / "push.no_hook.yaml").unlink()
    found = validate.validate(copy)
    assert [(one.rule, one.file) for one in found] == [("C04", "manifest.yaml")]
    assert name.split(".")[1] in found[0].say["en"]


def test_a_fixture_that_reads_otherwise_is_found(folder):
    found = broken(folder("github"), "is_failed: true", "is_failed: false",
                   "fixtures/push.list.yaml")  # fmt: skip
    assert [(one.rule, one.file, one.pointer) for one in found] == [
        ("C05", "fixtures/push.list.yaml", "/page")
    ]


def test_a_fixture_of_a_trigger_that_cannot_look_is_found(folder):
    copy = folder("demo-erp")
    (copy / "fixtures" / "odd.yaml").write_text("reconcile: nothing\n", encoding="utf-8")
    assert {one.rule for one in validate.validate(copy)} == {"C04"}


LINKS = [
    ('<https://api.github.com/x?cursor=v1_2&per_page=1>; rel="next"', "v1_2"),
    ('<https://a.example/?cursor=v1_1>; rel="prev", <https://a.example/?cursor=v1_3>; rel=next',
     "v1_3"),
    ("<https://a.example/?page=2>; rel=\"next\"", None),
    ('<https://a.example/?cursor=a%2Cb>; rel="next"', "a,b"),
    ('<https://a.example/?cursor=v1_1>; rel="prev"', None),
    ('<http://[::1/?cursor=x>; rel="next"', None),
    ("nonsense", None),
]  # fmt: skip


@pytest.mark.parametrize(("header", "wanted"), LINKS)
def test_the_next_page_is_named_by_one_parameter_of_the_link(header, wanted):
    look = loader.find("github").triggers["push"].reconcile
    assert reconcile.next_page(look, {"items": [], "next": header}) == wanted


def test_the_next_page_may_be_a_number_but_no_list_and_no_novel():
    look = loader.find("demo-shop").triggers["order_paid"].reconcile
    assert reconcile.next_page(look, {"next": 7}) == "7"
    assert reconcile.next_page(look, {"next": None}) is None
    for odd in ([1], {"a": 1}, True, "x" * 1001):
        with pytest.raises(reconcile.Unlisted):
            reconcile.next_page(look, {"next": odd})


def test_an_item_that_is_not_as_promised_is_refused_with_words():
    look = loader.find("github").triggers["push"].reconcile
    good = {"id": 1, "guid": "g", "delivered_at": "2026-11-22T01:00:00Z", "status_code": 0,
            "event": "push", "status": "failed to connect"}  # fmt: skip
    assert reconcile.delivery(look, good).is_failed
    for odd in (
        {**good, "guid": ""}, {**good, "delivered_at": "yesterday"}, {**good, "id": [1]}, {}, 7,
    ):  # fmt: skip
        with pytest.raises(reconcile.Unlisted) as no:
            reconcile.delivery(look, odd)
        assert no.value.say["zh"] != no.value.say["en"]


def test_the_apps_own_clock_is_read_from_its_answer():
    told = reconcile.clock_of({"date": "Sun, 22 Nov 2026 01:20:05 GMT"})
    assert told == datetime(2026, 11, 22, 1, 20, 5, tzinfo=UTC)
    assert reconcile.clock_of({}) is None
    assert reconcile.clock_of({"date": "soon"}) is None

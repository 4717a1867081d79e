"""What changed from one edition of a connector to the next, and which changes break what runs.

Flows rely on actions and triggers by name, on what goes in and comes out, and on dedupe keys: with
another key everything an app sends again would be a new event. Connections rely on ways to sign in.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from catalog import evolution, schema_changes
from connectors.engine.check_manifest import schema_of
from connectors.engine.connector import Action, Auth, Connector, Trigger
from connectors.engine.declared import Fetch, Lookup, ReadyMap
from connectors.engine.findings import Say, pointer, say

_OUT = frozenset({"removed", "renamed", "kind", "optional", "unclear"})
_KINDS = frozenset({"any", "object", "array", "string", "number", "integer", "boolean", "null"})


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference at a pointer of the manifest."""

    at: str
    say: Say
    is_breaking: bool

    def plain(self, language: str = "en") -> str:
        """Return one line for a terminal."""
        words = {"zh": ("不兼容", "兼容"), "en": ("BREAKING", "fine")}[language]
        return f"{words[0] if self.is_breaking else words[1]} {self.at} {self.say[language]}"


def compare(old: Connector, new: Connector) -> list[Difference]:
    """Return every difference that a flow, a connection or a person would notice."""
    return [
        *_settings(old, new),
        *_ways(old, new),
        *_parts("triggers", old.triggers, new.triggers, _trigger),
        *_parts("actions", old.actions, new.actions, _action),
        *_parts("lookups", old.lookups, new.lookups, _lookup),
        *_parts("maps", old.maps, new.maps, _map),
        *_hosts(old, new),
    ]


def is_allowed(old: Connector, new: Connector, found: list[Difference]) -> bool:
    """Tell whether the new version may hold these: a break needs a higher first number, anything
    else a higher version.
    """
    before, after = _numbers(old.version), _numbers(new.version)
    if any(one.is_breaking for one in found):
        return after[0] > before[0]
    return after > before or not found


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _settings(old: Connector, new: Connector) -> Iterator[Difference]:
    yield from _given("/settings", old.settings, new.settings)


def _given(at: str, old: Any, new: Any) -> Iterator[Difference]:
    """Compare what others hand in: whatever was taken has to be taken still."""
    for change in schema_changes.changes(dict(old), dict(new)):
        yield _changed(at, change, is_breaking=change.needs_version)


def _taken(at: str, old: Any, new: Any) -> Iterator[Difference]:
    """Compare what others read: every field and kind they know has to come still."""
    for change in schema_changes.changes(dict(old or {}), dict(new or {})):
        is_kind = change.what == "widened" and set(change.after.split(" | ")) <= _KINDS
        yield _changed(at, change, is_breaking=change.what in _OUT or is_kind)


def _changed(at: str, change: schema_changes.Change, *, is_breaking: bool) -> Difference:
    words = {tongue: evolution.plain_change(change, tongue) for tongue in ("zh", "en")}
    return Difference(at + change.path, words, is_breaking)


def _ways(old: Connector, new: Connector) -> Iterator[Difference]:
    before = {one.id: one for one in old.auth}
    after = {one.id: one for one in new.auth}
    for name, way in before.items():
        at = pointer("auth", name)
        if name not in after:
            text = say(
                "登录方式被删除，已有连接会失效", "This way to sign in is gone; connections end"
            )
            yield Difference(at, text, is_breaking=True)
        else:
            yield from _way(at, way, after[name])
    for name in after.keys() - before.keys():
        text = say("新的登录方式", "A new way to sign in")
        yield Difference(pointer("auth", name), text, is_breaking=False)


def _way(at: str, old: Auth, new: Auth) -> Iterator[Difference]:
    if old.kind != new.kind:
        text = say(f"从 {old.kind} 变成 {new.kind}", f"{old.kind} became {new.kind}")
        yield Difference(f"{at}/kind", text, is_breaking=True)
    needed = {name for name, one in new.fields.items() if not one.is_optional}
    known = {name for name, one in old.fields.items() if not one.is_optional}
    for name in sorted(needed - known):
        text = say("变成必填，已有连接没有它", "This is needed now; connections lack it")
        yield Difference(f"{at}/fields/{name}", text, is_breaking=True)
    for name in sorted(new.fields.keys() - old.fields.keys() - needed):
        yield Difference(f"{at}/fields/{name}", say("新的选填项", "A new optional field"), False)
    for name in sorted(old.fields.keys() - new.fields.keys()):
        yield Difference(f"{at}/fields/{name}", say("不再需要", "This is needed no more"), False)


def _parts(
    word: str, old: Mapping[str, Any], new: Mapping[str, Any], one_part: Any
) -> Iterator[Difference]:
    gone = [name for name in old if name not in new]
    come = [name for name in new if name not in old]
    for name in gone:
        likely = [other for other in come if _is_alike(old[name], new[other])]
        text = say("被删除", "This is gone")
        if len(likely) == 1:
            text = say(f"改名为 {likely[0]}", f"This was renamed to {likely[0]}")
        yield Difference(pointer(word, name), text, is_breaking=True)
    for name in come:
        yield Difference(pointer(word, name), say("新增", "This is new"), is_breaking=False)
    for name in old:
        if name in new:
            yield from one_part(pointer(word, name), old[name], new[name])


def _is_alike(old: Any, new: Any) -> bool:
    if isinstance(old, Action):
        return bool(old.input == new.input and old.output == new.output)
    if isinstance(old, Trigger):
        return bool(old.event == new.event and old.schema == new.schema)
    return bool(replace(old, key="") == replace(new, key=""))


def _action(at: str, old: Action, new: Action) -> Iterator[Difference]:
    if old.effect != new.effect:
        text = say(
            f"作用从 {old.effect} 变成 {new.effect}", f"Its effect {old.effect} became {new.effect}"
        )
        yield Difference(f"{at}/effect", text, is_breaking=True)
    if old.is_idempotent and not new.is_idempotent:
        text = say("不再能安全地重复", "It can no longer be repeated safely")
        yield Difference(f"{at}/idempotency", text, is_breaking=True)
    yield from _given(f"{at}/input", old.input, new.input)
    yield from _taken(f"{at}/output", old.output, new.output)
    yield from _in_parts(at, old, new)


def _in_parts(at: str, old: Action, new: Action) -> Iterator[Difference]:
    """Compare how many requests a step takes: a list that is read less far lacks what it had."""
    if old.pages is not None and new.pages is None:
        text = say("不再一页一页读到底", "The list is no longer read to its end")
        yield Difference(f"{at}/pages", text, is_breaking=True)
    elif old.pages is None and new.pages is not None:
        text = say("现在一页一页读到底", "The list is read to its end now")
        yield Difference(f"{at}/pages", text, is_breaking=False)
    elif old.pages is not None and new.pages is not None:
        for word in ("max_pages", "max_items"):
            before, after = getattr(old.pages, word), getattr(new.pages, word)
            if before != after:
                text = say(f"从 {before} 变成 {after}", f"{before} became {after}")
                yield Difference(f"{at}/pages/{word}", text, is_breaking=after < before)
    if (old.batch is None) != (new.batch is None):
        text = say("一次一条与一次多条之间的变化", "One item at a time became many, or back")
        yield Difference(f"{at}/batch", text, is_breaking=True)


def _lookup(at: str, old: Lookup, new: Lookup) -> Iterator[Difference]:
    """Compare choices: fields keep the values that people chose."""
    if (old.action, old.items, old.value) != (new.action, new.items, new.value):
        text = say("可选项的值变了", "The values to choose from are others now")
        yield Difference(f"{at}/value", text, is_breaking=True)
    yield from _given(f"{at}/input", old.input, new.input)


def _map(at: str, old: ReadyMap, new: ReadyMap) -> Iterator[Difference]:
    """Compare ready mappings: one that makes events is part of what flows hear."""
    if old.emits and not new.emits:
        text = say("不再发出标准事件", "It no longer makes the hub's event")
        yield Difference(f"{at}/emit", text, is_breaking=True)
    before, after = (old.event, old.version), (new.event, new.version)
    if before != after:
        text = say(f"从 {before} 变成 {after}", f"{before} became {after}")
        yield Difference(f"{at}/to", text, is_breaking=True)
    elif old.rules != new.rules or old.when != new.when:
        text = say("对照规则有变化", "Its rules changed")
        yield Difference(f"{at}/rules", text, is_breaking=False)


def _fetch(at: str, old: Fetch | None, new: Fetch | None) -> Iterator[Difference]:
    """Compare how thin events are completed: flows listen to the whole ones."""
    if old is None and new is None:
        return
    if old is None or new is None:
        is_gone = new is None
        text = (
            say("不再补全事件", "Its events are no longer completed")
            if is_gone
            else say("现在会补全事件", "Its events are completed now")
        )
        yield Difference(at, text, is_breaking=is_gone)
        return
    if (old.event, old.version) != (new.event, new.version):
        text = say(f"从 {old.event} 变成 {new.event}", f"{old.event} became {new.event}")
        yield Difference(f"{at}/event", text, is_breaking=True)
    yield from _taken(f"{at}/schema", old.schema, new.schema)


def _trigger(at: str, old: Trigger, new: Trigger) -> Iterator[Difference]:
    for word in ("event", "version"):
        before, after = getattr(old, word), getattr(new, word)
        if before != after:
            text = say(f"从 {before} 变成 {after}", f"{before} became {after}")
            yield Difference(f"{at}/{word}", text, is_breaking=True)
    if old.dedupe != new.dedupe or _own_id(old) != _own_id(new):
        text = say(
            "去重键变了：应用重发的每条消息都会再触发一次",
            "The dedupe key changed: whatever the app sends again would fire once more",
        )
        yield Difference(f"{at}/dedupe", text, is_breaking=True)
    if old.verify["scheme"] != new.verify["scheme"]:
        text = say("验签方式变了，已开的接收地址须重建", "Another check; open addresses anew")
        yield Difference(f"{at}/verify", text, is_breaking=True)
    if (old.reconcile is None) != (new.reconcile is None):
        is_gone = new.reconcile is None
        text = (
            say("不再能补查", "Missing events are no longer found")
            if is_gone
            else say("现在能补查漏掉的事件", "Missing events are found now")
        )
        yield Difference(f"{at}/reconcile", text, is_breaking=is_gone)
    elif old.reconcile is not None and new.reconcile is not None:
        if (old.reconcile.kind, old.reconcile.item) != (new.reconcile.kind, new.reconcile.item):
            text = say("补查的读法变了", "What is found is read in another way")
            yield Difference(f"{at}/reconcile", text, is_breaking=True)
        yield from _given(f"{at}/reconcile/input", old.reconcile.input, new.reconcile.input)
    yield from _taken(f"{at}/schema", schema_of(old), schema_of(new))
    yield from _fetch(f"{at}/fetch", old.fetch, new.fetch)


def _own_id(trigger: Trigger) -> Any:
    """Return what a recipe takes for the delivery's id, which is its dedupe key."""
    return trigger.verify.get("options", {}).get("id")


def _hosts(old: Connector, new: Connector) -> Iterator[Difference]:
    for host in sorted(set(new.hosts) - set(old.hosts)):
        text = say(f"会访问新的主机 {host}", f"It calls one more host: {host}")
        yield Difference("/connector/hosts", text, is_breaking=False)

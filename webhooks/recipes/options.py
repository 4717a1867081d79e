"""Checking all that a manifest or an owner says of deliveries, before an address is opened."""

import re
from collections.abc import Mapping
from typing import Any

from kernel import documents
from webhooks.recipes import reading
from webhooks.recipes.checking import Found, check, check_condition, check_text

MAX_BYTES = 64 * 1024
MAX_SECRETS = 10
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_KEYS = frozenset(
    {"secrets", "steps", "body", "id", "at", "type", "handshake", "ack", "refuse", "once"}
)
_REPLY = frozenset({"status", "text", "json", "steps", "content_type"})
_ASKED = frozenset({"title", "help", "pattern", "secret", "optional", "field"})


class _Findings(list[tuple[str, dict[str, str]]]):
    """What is wrong, in order."""

    def say(self, pointer: str, zh: str, en: str) -> None:
        self.append((pointer, {"zh": zh, "en": en}))

    def keys(self, given: Any, allowed: frozenset[str], pointer: str) -> bool:
        if not isinstance(given, Mapping):
            self.say(pointer, "这里需要对象", "An object is expected here")
            return False
        for key in given:
            if key not in allowed:
                self.say(f"{pointer}/{key}", f"没有 {key} 这个选项", f"There is no option {key}")
        return True


def check_options(options: Any, pointer: str = "") -> Found:
    """Return what is wrong with the options of a `recipe`: (pointer, {zh, en}); [] is good."""
    found = _Findings()
    if not found.keys(options, _KEYS, pointer):
        return found
    if len(documents.dump(options)) > MAX_BYTES:
        found.say(pointer, "配方超过 64 KB", "The recipe has more than 64 KB")
        return found
    roots = _roots(options, found, pointer)
    steps = options.get("steps")
    found += check(steps, roots, f"{pointer}/steps")
    if isinstance(steps, list) and not reading.is_proof(steps):
        found.say(
            f"{pointer}/steps",
            "没有任何检查：需要 equal、rsa_verify、ed25519_verify、jwt 或 aes_gcm 之一",
            "Nothing is checked: it needs equal, rsa_verify, ed25519_verify, jwt or aes_gcm",
        )
    names = {**roots, **dict.fromkeys(_named(steps))}
    if "body" in options:
        found += check_text(options["body"], names, f"{pointer}/body")
    for name in ("id", "once"):
        _check_texts(options.get(name), names, f"{pointer}/{name}", found)
    if "once" in options and not _is_fresh(steps):
        found.say(f"{pointer}/once", "once 需要一个 fresh 步骤：编号只记一天",
                  "once needs a fresh step, for words are remembered for a day")  # fmt: skip
    _check_event(options, names, pointer, found)
    if "ack" in options:
        _check_reply(options["ack"], names, f"{pointer}/ack", found)
    _check_refusal(options, pointer, found)
    _check_handshakes(options.get("handshake", []), roots, f"{pointer}/handshake", found)
    return found


def _roots(options: Mapping[str, Any], found: _Findings, pointer: str) -> dict[str, Any]:
    asked = options.get("secrets", {})
    secret: set[str] = set()
    settings: set[str] = set()
    if not isinstance(asked, Mapping) or len(asked) > MAX_SECRETS:
        found.say(f"{pointer}/secrets", "最多 10 个", "There can be 10 at most")
        asked = {}
    for name, one in asked.items():
        place = f"{pointer}/secrets/{name}"
        if not _NAME.fullmatch(str(name)):
            found.say(place, "名称只能用小写字母、数字和下划线",
                      "A name has small letters, digits and underscores")  # fmt: skip
        if not found.keys(one, _ASKED, place):
            continue
        (secret if one.get("secret", True) else settings).add(str(name))
        title = one.get("title")
        if not isinstance(title, Mapping) or not {"zh", "en"} <= title.keys():
            found.say(place, "需要 zh 和 en 的 title", "It needs a title in zh and en")
        if "pattern" in one and compiled(one["pattern"]) is None:
            found.say(f"{place}/pattern", "这个正则表达式不可用", "This pattern cannot be used")
    return {
        "method": None, "path": None, "query": None, "header": None, "body": None,
        "secret": frozenset(secret), "settings": frozenset(settings),
    }  # fmt: skip


# What a secret may look like: classes and counts, nothing that could take long.
_PATTERN = re.compile(
    r"\^(?:\[[A-Za-z0-9_+/=:. -]{1,60}\]|[A-Za-z0-9_-])(?:[A-Za-z0-9_\[\]{},+/=:. -])*\$"
)


def compiled(pattern: Any) -> re.Pattern[str] | None:
    """Return a pattern of a secret, or None for one that is not plain: ^[A-Za-z0-9]{43}$."""
    if not isinstance(pattern, str) or len(pattern) > 100 or not _PATTERN.fullmatch(pattern):
        return None
    try:
        return re.compile(pattern)
    except re.error:
        return None


def _named(steps: Any) -> set[str]:
    """Return every name that some step gives."""
    names: set[str] = set()
    for step in steps if isinstance(steps, list) else ():
        if not isinstance(step, Mapping):
            continue
        if isinstance(step.get("as"), str):
            names.add(step["as"])
        names |= _named(step.get("steps"))
        for way in step["any"] if isinstance(step.get("any"), list) else ():
            names |= _named(way)
    return names


def _is_fresh(steps: Any) -> bool:
    listed = steps if isinstance(steps, list) else []
    return any(isinstance(step, Mapping) and "fresh" in step for step in listed)


def _check_texts(given: Any, names: Mapping[str, Any], pointer: str, found: _Findings) -> None:
    if given is None:
        return
    if not isinstance(given, list):
        found += check_text(given, names, pointer)
        return
    for index, one in enumerate(given[:10]):
        found += check_text(one, names, f"{pointer}/{index}")


def _check_event(
    options: Mapping[str, Any], names: Mapping[str, Any], pointer: str, found: _Findings
) -> None:
    if "at" in options and found.keys(
        options["at"], frozenset({"value", "unit", "offset"}), f"{pointer}/at"
    ):
        step = {"unit": "s", **{k: v for k, v in options["at"].items() if k != "value"}}
        value = options["at"].get("value")
        _check_texts(value, names, f"{pointer}/at/value", found)
        found += [
            (f"{pointer}/at{place[2:]}", say)
            for place, say in check([{"fresh": "", **step}], names)
        ]
    if "type" in options and found.keys(
        options["type"], frozenset({"value", "prefix", "lower"}), f"{pointer}/type"
    ):
        _check_texts(options["type"].get("value", []), names, f"{pointer}/type/value", found)


def _check_reply(
    said: Any, names: Mapping[str, Any], pointer: str, found: _Findings, *, least: int = 200
) -> None:
    if not found.keys(said, _REPLY, pointer):
        return
    status = said.get("status", least)
    if type(status) is not int or not least <= status <= least + (99 if least == 200 else 199):
        found.say(f"{pointer}/status", f"须为 {least} 起的状态码", f"A status from {least} on")
    kind = said.get("content_type")
    if kind is not None and not reading.is_content_type(kind):
        listed = ", ".join(sorted(reading.CONTENT_TYPES))
        found.say(f"{pointer}/content_type", f"只能是：{listed}", f"It must be one of: {listed}")
    if "text" in said and "json" in said:
        found.say(pointer, "text 和 json 只能有一个", "Either text or json")
    if "steps" in said:
        found += check(said["steps"], names, f"{pointer}/steps")
        names = {**names, **dict.fromkeys(_named(said["steps"]))}
    if "text" in said:
        found += check_text(said["text"], names, f"{pointer}/text")
    _check_filled(said.get("json"), names, f"{pointer}/json", found)


def _check_filled(document: Any, names: Mapping[str, Any], pointer: str, found: _Findings) -> None:
    if isinstance(document, Mapping):
        for name, one in document.items():
            _check_filled(one, names, f"{pointer}/{name}", found)
    elif isinstance(document, list):
        for index, one in enumerate(document):
            _check_filled(one, names, f"{pointer}/{index}", found)
    elif isinstance(document, str):
        found += check_text(document, names, pointer)


def _check_refusal(options: Mapping[str, Any], pointer: str, found: _Findings) -> None:
    said = options.get("refuse")
    if said is None:
        return
    if isinstance(said, Mapping) and "steps" in said:
        found.say(f"{pointer}/refuse/steps", "拒绝时没有步骤", "A refusal has no steps")
        return
    _check_reply(said, {}, f"{pointer}/refuse", found, least=400)


def _check_handshakes(
    listed: Any, roots: Mapping[str, Any], pointer: str, found: _Findings
) -> None:
    if not isinstance(listed, list) or len(listed) > 5:
        found.say(pointer, "最多 5 个握手", "There can be 5 handshakes at most")
        return
    for index, one in enumerate(listed):
        place = f"{pointer}/{index}"
        if not found.keys(one, frozenset({"when", "steps", "reply"}), place):
            continue
        found += check_condition(one.get("when"), roots, f"{place}/when")
        found += check(one.get("steps", []), roots, f"{place}/steps")
        names = {**roots, **dict.fromkeys(_named(one.get("steps")))}
        if "reply" not in one:
            found.say(place, "缺少 reply", "reply is missing")
        else:
            _check_reply(one["reply"], names, f"{place}/reply", found)


def check_filled(options: Mapping[str, Any], filled: Mapping[str, Any]) -> Found:
    """Return what is wrong with what was filled in; pointers begin at the names."""
    found = _Findings()
    asked = options.get("secrets", {})
    for name in filled:
        if name not in asked:
            found.say(f"/{name}", "没有这一项", "There is no such value")
    for name, one in asked.items():
        value = filled.get(name)
        if not value:
            if not one.get("optional"):
                found.say(f"/{name}", "请填写", "Please fill this in")
        elif not isinstance(value, str) or len(value.encode("utf-8", "replace")) > 16_384:
            found.say(f"/{name}", "太长", "This is too long")
        elif "pattern" in one:
            pattern = compiled(one["pattern"])
            if pattern is not None and not pattern.fullmatch(value):
                found.say(f"/{name}", "格式不对，请检查是否完整复制",
                          "This does not look right; was it copied whole?")  # fmt: skip
    return found

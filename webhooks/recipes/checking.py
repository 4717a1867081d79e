"""Checking a recipe before anybody uses it: words, options, and names that are there."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from webhooks.recipes import keys, seals, texts
from webhooks.recipes.running import CHECKS, MAX_DEPTH, MAX_STEPS, VALUES
from webhooks.recipes.values import Path, path_of, references

Say = dict[str, str]
Found = list[tuple[str, Say]]
Roots = Mapping[str, Any] | frozenset[str]
# An option's rule: None when the value is good, else what it should be.
Rule = Callable[[Any], Say | None]

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


def _say(zh: str, en: str) -> Say:
    return {"zh": zh, "en": en}


def _one_of(*choices: Any) -> Rule:
    listed = ", ".join(map(str, choices))

    def rule(value: Any) -> Say | None:
        is_one = any(value == one and type(value) is type(one) for one in choices)
        return None if is_one else _say(f"只能是：{listed}", f"It must be one of: {listed}")

    return rule


def _number(least: int, most: int) -> Rule:
    def rule(value: Any) -> Say | None:
        if type(value) is int and least <= value <= most:
            return None
        return _say(f"须为 {least} 到 {most} 的整数", f"It must be a number from {least} to {most}")

    return rule


def _short(value: Any) -> Say | None:
    if isinstance(value, str) and len(value) <= 20:
        return None
    return _say("须为不超过 20 字的文字", "It must be a text of at most 20 characters")


def _mark(value: Any) -> Say | None:
    if isinstance(value, str) and 1 <= len(value) <= 20:
        return None
    return _say("须为 1 到 20 字的文字", "It must be a text of 1 to 20 characters")


def _flag(value: Any) -> Say | None:
    return (
        None if isinstance(value, bool) else _say("须为 true 或 false", "It must be true or false")
    )


def _offset(value: Any) -> Say | None:
    is_good = isinstance(value, str) and re.fullmatch(r"[+-][01][0-9]:[0-5][0-9]", value)
    return None if is_good else _say("要写成 +08:00 这样", "It is written like +08:00")


def _unit(value: Any) -> Say | None:
    if value in ("s", "ms", "iso") or texts.is_pattern(value):
        return None
    return _say(
        "须为 s、ms、iso 或 yyyy-MM-dd HH:mm:ss 这样的写法",
        "It must be s, ms, iso or a pattern like yyyy-MM-dd HH:mm:ss",
    )


def _names(value: Any) -> Say | None:
    if isinstance(value, list) and len(value) <= 50 and all(isinstance(one, str) for one in value):
        return None
    return _say("须为名称列表", "It must be a list of names")


class _Text:
    """Marks what holds references; `many` for a list of texts."""

    def __init__(self, *, least: int = 0, most: int = 0) -> None:
        self.least, self.most = least, most


_TEXT, _PAIR, _TEXTS = _Text(), _Text(least=2, most=2), _Text(least=1, most=20)
_OUT = _one_of(*texts.OUTS)
_KEY_IS = _one_of(*keys.KEY_IS)
_KEYED = {"key": _TEXT, "key_is": _KEY_IS}
_SIGNED = {"key": _TEXT, "of": _TEXT, "signature": _TEXT}
_SIGNATURE_IS = _one_of("base64", "base64url", "hex", "raw")
_CIPHER: dict[str, Any] = {
    **_KEYED, "iv": _TEXT, "iv_is": _one_of(*seals.IV_IS), "pad": _one_of(16, 32, "none"),
    "of": _TEXT, "nonce": _TEXT, "aad": _TEXT,
}  # fmt: skip
_FRAME: dict[str, Any] = {"skip": _number(0, 64), "length_bytes": _number(1, 8)}

# operation: (rule of what stands behind the word, its options, those of them that must be there)
_GRAMMAR: dict[str, tuple[Any, dict[str, Any], tuple[str, ...]]] = {
    "text": (_TEXT, {"optional": _flag}, ()),
    "time": (_unit, {"offset": _offset}, ()),
    "random": (_number(1, 64), {"out": _one_of(*texts.OUTS, "digits")}, ()),
    "split": (_TEXT, {"at": _mark}, ("at",)),
    "xor": (_PAIR, {"out": _OUT}, ()),
    "sorted": (_TEXTS, {"between": _short}, ()),
    "hash": (_one_of(*seals.DIGESTS), {"of": _TEXT, "out": _OUT}, ("of",)),
    "hmac": (_one_of(*seals.DIGESTS), {**_KEYED, "of": _TEXT, "out": _OUT}, ("key", "of")),
    "rsa_sign": (
        _one_of(*seals.RSA_DIGESTS), {"key": _TEXT, "of": _TEXT, "out": _OUT}, ("key", "of"),
    ),
    "rsa_verify": (
        _one_of(*seals.RSA_DIGESTS), {**_SIGNED, "signature_is": _SIGNATURE_IS}, tuple(_SIGNED),
    ),
    "ed25519_verify": (
        _one_of(True),
        {**_SIGNED, "signature_is": _SIGNATURE_IS, "key_is": _one_of("hex", "base64")},
        tuple(_SIGNED),
    ),
    "jwt": (
        _one_of(*seals.TOKENS),
        {**_KEYED, "of": _TEXT, "issuer": _TEXT, "audience": _TEXT,
         "leeway_seconds": _number(0, 600)},
        ("key", "of"),
    ),
    "decrypt": (
        _one_of(*seals.CIPHERS),
        {**_CIPHER, "of_is": _one_of("base64", "base64url", "hex", "raw")},
        ("key", "of"),
    ),
    "encrypt": (_one_of(*seals.CIPHERS), {**_CIPHER, "out": _OUT}, ("key", "of")),
    "unframe": (_TEXT, _FRAME, ()),
    "frame": (_TEXT, {**_FRAME, "rest": _TEXT}, ()),
    "decode": (
        _one_of("base64", "base64url", "hex", "percent", "form"), {"of": _TEXT}, ("of",),
    ),
    "encode": (
        _one_of("base64", "base64url", "hex", "HEX", "percent", "form"), {"of": _TEXT}, ("of",),
    ),
    "parse": (_one_of("json", "xml", "form", "query"), {"of": _TEXT}, ("of",)),
    "equal": (_PAIR, {}, ()),
    "fresh": (
        _TEXT, {"unit": _unit, "offset": _offset, "within_seconds": _number(1, 86_400)}, (),
    ),
}  # fmt: skip
_PAIRS: dict[str, Rule] = {
    "of": _names, "drop": _names, "only": _names, "skip_empty": _flag,
    "sort": _one_of("name", "value", "none"), "pair": _short, "between": _short,
    "encode": _one_of("none", "percent"), "lower": _flag,
    "what": _one_of("both", "names", "values"),
}  # fmt: skip


def check(steps: Any, roots: Roots, pointer: str = "") -> Found:
    """Return what is wrong with a recipe: (JSON pointer, {zh, en}); [] means that it can run.

    `roots` are the names that are there before; a mapping says with a set which parts each has.
    """
    look = _Look(roots)
    look.steps(steps, pointer, 0)
    if look.count > MAX_STEPS:
        look.add(pointer, f"超过 {MAX_STEPS} 步", f"There are more than {MAX_STEPS} steps")
    return look.found


def check_text(template: Any, roots: Roots, pointer: str = "") -> Found:
    """Return what is wrong with one text outside of steps."""
    look = _Look(roots)
    look.text(template, pointer)
    return look.found


def check_condition(condition: Any, roots: Roots, pointer: str = "") -> Found:
    """Return what is wrong with a `when`."""
    look = _Look(roots)
    look.condition(condition, pointer)
    return look.found


class _Look:
    """One look through a recipe; knows which names there are so far."""

    def __init__(self, roots: Roots) -> None:
        self.parts: Mapping[str, Any] = roots if isinstance(roots, Mapping) else {}
        self.roots = frozenset(roots)
        self.names = set(roots)
        self.found: Found = []
        self.count = 0

    def add(self, pointer: str, zh: str, en: str) -> None:
        if len(self.found) < 50:
            self.found.append((pointer, _say(zh, en)))

    def steps(self, steps: Any, pointer: str, depth: int) -> None:
        if not isinstance(steps, list) or depth > MAX_DEPTH:
            self.add(pointer, "这里需要步骤列表（嵌套不超过 3 层）",
                     "A list of steps is expected, nested at most 3 deep")  # fmt: skip
            return
        for index, step in enumerate(steps):
            self.count += 1
            if self.count <= MAX_STEPS:
                self.step(step, f"{pointer}/{index}", depth)

    def step(self, step: Any, pointer: str, depth: int) -> None:
        if not isinstance(step, Mapping):
            self.add(pointer, "步骤须为对象", "A step is an object")
            return
        known = {*VALUES, *CHECKS, "when", "any"}
        words = [str(key) for key in step if key in known]
        if len(words) != 1:
            listed = ", ".join(sorted(known))
            self.add(
                pointer, f"每步恰好一个操作：{listed}", f"A step has one operation of: {listed}"
            )
            return
        word = words[0]
        if word == "when":
            self.others(step, {"when", "steps"}, pointer)
            self.condition(step["when"], f"{pointer}/when")
            self.steps(step.get("steps"), f"{pointer}/steps", depth + 1)
        elif word == "any":
            self.others(step, {"any"}, pointer)
            ways = step["any"] if isinstance(step["any"], list) else [None]
            for index, way in enumerate(ways[:5]):
                self.steps(way, f"{pointer}/any/{index}", depth + 1)
        elif word == "pairs":
            self.pairs(step, pointer)
        else:
            self.operation(word, step, pointer)
        if word in VALUES:
            self.name(step, pointer)

    def others(self, step: Mapping[str, Any], allowed: set[str], pointer: str) -> None:
        for key in step:
            if key not in allowed:
                self.add(f"{pointer}/{key}", f"没有 {key} 这个选项", f"There is no option {key}")

    def operation(self, word: str, step: Mapping[str, Any], pointer: str) -> None:
        rule, options, needed = _GRAMMAR[word]
        self.others(step, {word, *options, *(["as"] if word in VALUES else [])}, pointer)
        self.value(rule, step[word], f"{pointer}/{word}")
        for name, one in options.items():
            if name in step:
                self.value(one, step[name], f"{pointer}/{name}")
            elif name in needed:
                self.add(pointer, f"缺少 {name}", f"{name} is missing")
        if word in ("decrypt", "encrypt"):
            self.cipher(word, step, pointer)

    def cipher(self, word: str, step: Mapping[str, Any], pointer: str) -> None:
        if step[word] == "aes_gcm" and "nonce" not in step:
            self.add(pointer, "aes_gcm 需要 nonce", "aes_gcm needs a nonce")
        if step[word] == "aes_cbc" and ("iv" in step) == ("iv_is" in step):
            self.add(pointer, "aes_cbc 需要 iv 或 iv_is 之一", "aes_cbc needs either iv or iv_is")

    def pairs(self, step: Mapping[str, Any], pointer: str) -> None:
        self.others(step, {"pairs", "as"}, pointer)
        said = step["pairs"]
        if not isinstance(said, Mapping) or not isinstance(said.get("of"), list):
            self.add(f"{pointer}/pairs", "pairs 需要 of", "pairs needs of")
            return
        self.others(said, set(_PAIRS), f"{pointer}/pairs")
        for name, rule in _PAIRS.items():
            if name in said:
                self.value(rule, said[name], f"{pointer}/pairs/{name}")
        for one in said["of"]:
            self.reference(one, f"{pointer}/pairs/of")

    def value(self, rule: Any, value: Any, pointer: str) -> None:
        if not isinstance(rule, _Text):
            wrong = rule(value)
            if wrong is not None:
                self.found.append((pointer, wrong))
        elif not rule.most:
            self.text(value, pointer)
        elif not isinstance(value, list) or not rule.least <= len(value) <= rule.most:
            self.add(pointer, f"须为 {rule.least} 到 {rule.most} 段文字",
                     f"It must be a list of {rule.least} to {rule.most} texts")  # fmt: skip
        else:
            for index, one in enumerate(value):
                self.text(one, f"{pointer}/{index}")

    def text(self, template: Any, pointer: str) -> None:
        try:
            found = references(template) if isinstance(template, str) else None
        except ValueError:
            found = None
        if found is None:
            self.add(pointer, "须为文字，引用写成 ${名称}",
                     "It must be a text whose references are written ${name}")  # fmt: skip
            return
        for path in found:
            self.path(path, pointer)

    def reference(self, name: Any, pointer: str) -> None:
        try:
            self.path(path_of(name), pointer)
        except (ValueError, AttributeError):
            self.add(pointer, "须为名称", "It must be a name")

    def path(self, path: Path, pointer: str) -> None:
        name = ".".join(path)
        if path[0] not in self.names:
            self.add(pointer, f"没有 {name} 这个值", f"There is no value {name}")
            return
        parts = self.parts.get(path[0]) if path[0] in self.roots else None
        if parts is not None and len(path) > 1 and path[1] not in parts:
            self.add(pointer, f"没有 {name} 这个值", f"There is no value {name}")

    def condition(self, condition: Any, pointer: str) -> None:
        if not isinstance(condition, Mapping) or not condition:
            self.add(pointer, "条件须为对象", "A condition is an object")
            return
        self.others(condition, {"has", "lacks", "is", "method"}, pointer)
        for name in ("has", "lacks"):
            if name in condition:
                self.reference(condition[name], f"{pointer}/{name}")
        if "is" in condition:
            self.value(_Text(least=2, most=20), condition["is"], f"{pointer}/is")
        if "method" in condition:
            self.value(_one_of("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"),
                       condition["method"], f"{pointer}/method")  # fmt: skip

    def name(self, step: Mapping[str, Any], pointer: str) -> None:
        name = step.get("as")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            self.add(f"{pointer}/as", "需要 as：小写字母、数字和下划线",
                     "It needs `as`: small letters, digits and underscores")  # fmt: skip
        elif name in self.roots:
            self.add(f"{pointer}/as", f"{name} 已有含义", f"{name} already means something")
        else:
            self.names.add(name)

"""Tokens of an expression, with the caps that keep every expression small and flat."""

import re
from dataclasses import dataclass

from connectors.engine.findings import EngineError, Say, say

MAX_LENGTH = 500
MAX_NESTING = 12
MAX_TOKENS = 160
MAX_UNARY = 4

_TOKEN = re.compile(
    r"""
      (?P<space>[ \t\r\n]+)
    | (?P<text>"(?:[^"\\\r\n]|\\.)*"|'(?:[^'\\\r\n]|\\.)*')
    | (?P<number>[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)
    | (?P<name>[^\W\d]\w*)
    | (?P<mark>&&|\|\||==|!=|<=|>=|[<>!+\-*/%?:.,()\[\]{}])
    """,
    re.VERBOSE,
)
_CLOSES = {")": "(", "]": "[", "}": "{"}
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", '"': '"', "'": "'", "`": "`", "?": "?"}


class BadExpression(EngineError):  # noqa: N818 - the sentence is the point
    """The expression is refused when it is saved; `at` is the character it stumbles on."""

    def __init__(self, sentence: Say, at: int = 0) -> None:
        """Keep the sentence and the position."""
        super().__init__(sentence)
        self.at = at


@dataclass(frozen=True, slots=True)
class Token:
    """One token: kind is text, number, name or mark; `at` is its first character."""

    kind: str
    text: str
    at: int


def tokenize(source: str) -> list[Token]:
    """Cut an expression into tokens, or refuse it."""
    if len(source) > MAX_LENGTH:
        raise BadExpression(
            say(
                f"表达式超过 {MAX_LENGTH} 个字符，请拆成几步",
                f"The expression is longer than {MAX_LENGTH} characters; split it into steps",
            )
        )
    found: list[Token] = []
    at = 0
    while at < len(source):
        match = _TOKEN.match(source, at)
        if match is None:
            raise BadExpression(
                say(f"看不懂字符“{source[at]}”", f"The character “{source[at]}” is not read here"),
                at,
            )
        if match.lastgroup != "space":
            found.append(Token(str(match.lastgroup), match.group(), at))
        at = match.end()
    _check_shape(found)
    return found


def _check_shape(found: list[Token]) -> None:
    if not found:
        raise BadExpression(say("表达式是空的", "The expression is empty"))
    if len(found) > MAX_TOKENS:
        raise BadExpression(
            say("表达式太复杂，请拆成几步", "The expression is too complex; split it into steps")
        )
    opened: list[str] = []
    unary = 0
    for token in found:
        unary = unary + 1 if token.text in ("!", "-") and token.kind == "mark" else 0
        if unary > MAX_UNARY:
            raise BadExpression(say("连续的符号太多", "Too many signs in a row"), token.at)
        if token.kind != "mark":
            continue
        if token.text in "([{":
            opened.append(token.text)
            if len(opened) > MAX_NESTING:
                raise BadExpression(
                    say(f"括号超过 {MAX_NESTING} 层", f"Brackets nest deeper than {MAX_NESTING}"),
                    token.at,
                )
        elif token.text in _CLOSES and (not opened or opened.pop() != _CLOSES[token.text]):
            raise BadExpression(say("括号不成对", "The brackets do not match"), token.at)
    if opened:
        raise BadExpression(say("括号没有闭合", "A bracket is not closed"), found[-1].at)


def text_of(token: Token) -> str:
    """Return what a text token says."""
    body = token.text[1:-1]
    if "\\" not in body:
        return body
    out: list[str] = []
    position = 0
    while position < len(body):
        character = body[position]
        if character != "\\":
            out.append(character)
            position += 1
            continue
        mark = body[position + 1]
        if mark == "u" and re.fullmatch(r"[0-9a-fA-F]{4}", body[position + 2 : position + 6]):
            code = int(body[position + 2 : position + 6], 16)
            if 0xD800 <= code < 0xE000:
                raise BadExpression(say("无效的字符", "This is not a character"), token.at)
            out.append(chr(code))
            position += 6
            continue
        if mark not in _ESCAPES:
            raise BadExpression(
                say(f"不支持转义 \\{mark}", f"The escape \\{mark} is not read"), token.at
            )
        out.append(_ESCAPES[mark])
        position += 2
    return "".join(out)


def closing(tokens: list[Token], start: int) -> int:
    """Return the position of the bracket that closes the one at `start`."""
    depth = 0
    for position in range(start, len(tokens)):
        if tokens[position].kind != "mark":
            continue
        if tokens[position].text in "([{":
            depth += 1
        elif tokens[position].text in ")]}":
            depth -= 1
            if depth == 0:
                return position
    raise BadExpression(say("括号没有闭合", "A bracket is not closed"), tokens[start].at)


def arguments(tokens: list[Token], start: int, end: int) -> list[tuple[int, int]]:
    """Return the (from, to) token ranges between commas of a call's brackets."""
    found: list[tuple[int, int]] = []
    first, position = start, start
    while position < end:
        token = tokens[position]
        if token.kind == "mark" and token.text in "([{":
            position = closing(tokens, position)
        elif token.kind == "mark" and token.text == ",":
            found.append((first, position))
            first = position + 1
        position += 1
    if start < end:
        found.append((first, end))
    for begin, stop in found:
        if begin >= stop:
            raise BadExpression(say("逗号之间缺少内容", "There is nothing between two commas"))
    return found

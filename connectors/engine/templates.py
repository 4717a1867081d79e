"""Texts with `${…}` in them, cut once into plain pieces and compiled expressions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from connectors.engine.budget import Budget
from connectors.engine.expressions import ROOTS, Expression, compile_expression
from connectors.engine.findings import say
from connectors.engine.functions import EvaluationError, short, to_text
from connectors.engine.tokens import BadExpression

MAX_TEMPLATE = 4_000


@dataclass(frozen=True, slots=True)
class Template:
    """A compiled text: pieces are plain text or expressions."""

    pieces: tuple[str | Expression, ...]

    @property
    def expressions(self) -> tuple[Expression, ...]:
        """Return the expressions in it."""
        return tuple(piece for piece in self.pieces if isinstance(piece, Expression))

    @property
    def is_typed(self) -> bool:
        """Tell whether the text is exactly one expression, whose value keeps its type."""
        return len(self.pieces) == 1 and isinstance(self.pieces[0], Expression)

    def evaluate(self, activation: Mapping[str, Any], budget: Budget | None = None) -> Any:
        """Return the typed value of a single expression, else the joined text."""
        first = self.pieces[0]
        if len(self.pieces) == 1 and isinstance(first, Expression):
            return first.evaluate(activation, budget)
        return self.write(activation, str, budget)

    def write(
        self,
        activation: Mapping[str, Any],
        clean: Callable[[str], str],
        budget: Budget | None = None,
    ) -> str:
        """Return the joined text, each expression's text passed through `clean`."""
        budget = budget or Budget()
        out: list[str] = []
        for piece in self.pieces:
            if isinstance(piece, str):
                out.append(piece)
                continue
            try:
                out.append(clean(to_text(piece.evaluate(activation, budget))))
            except EvaluationError as lost:
                raise type(lost)(lost.say, lost.path or piece.text) from lost
        return short("".join(out))


@lru_cache(maxsize=4096)
def parse(text: str, roots: frozenset[str] = ROOTS) -> Template:
    """Compile a text; `$${` writes a plain `${`. Raises BadExpression."""
    if len(text) > MAX_TEMPLATE:
        raise BadExpression(
            say(f"文本超过 {MAX_TEMPLATE} 个字符", f"The text is over {MAX_TEMPLATE} characters")
        )
    pieces: list[str | Expression] = []
    plain, at = "", 0
    while True:
        start = text.find("${", at)
        if start < 0:
            plain += text[at:]
            break
        if start > at and text[start - 1] == "$":
            plain += text[at : start - 1] + "${"
            at = start + 2
            continue
        plain += text[at:start]
        end = _end(text, start + 2)
        if plain:
            pieces.append(plain)
            plain = ""
        pieces.append(compile_expression(text[start + 2 : end].strip(), roots))
        at = end + 1
    if plain or not pieces:
        pieces.append(plain)
    return Template(tuple(pieces))


def _end(text: str, start: int) -> int:
    depth, quote, at = 0, "", start
    while at < len(text):
        character = text[at]
        if quote:
            if character == "\\":
                at += 1
            elif character == quote:
                quote = ""
        elif character in "\"'":
            quote = character
        elif character == "{":
            depth += 1
        elif character == "}":
            if depth == 0:
                return at
            depth -= 1
        at += 1
    raise BadExpression(say("${ 没有用 } 结束", "A ${ is not closed by }"), start)

"""From tokens to nodes: what is plain stays native, the rest becomes CEL over named variables."""

from decimal import Decimal

from catalog import patterns
from connectors.engine import cel
from connectors.engine.findings import say
from connectors.engine.functions import FUNCTIONS
from connectors.engine.nodes import Call, Cel, Literal, Node, Path
from connectors.engine.tokens import BadExpression, Token, arguments, closing, text_of

ROOTS = frozenset(
    [
        "event",
        "steps",
        "item",
        "index",
        "input",
        "settings",
        "field",
        "token",
        "body",
        "data",
        "header",
        "status",
        "effect_key",
        "hook",
        "organization",
        "installation",
        "state",
        "look",
        "rehearsal",
        "error",
        "awaited",
    ]
)
_WORDS = {"true": True, "false": False, "null": None}
_GLOBAL_CALLS = {"size", "timestamp", "duration"}
_METHODS = {"contains", "startsWith", "endsWith", "matches", "size"}
_MACROS = {"all", "exists", "exists_one", "filter", "map"}
_MAX_LOOPS = 2


class Compiler:
    """Turns tokens into nodes; one per compile call."""

    def __init__(self, roots: frozenset[str], engine: str) -> None:
        self.roots, self.engine = roots, engine

    def node(self, tokens: list[Token], start: int, end: int, scope: frozenset[str]) -> Node:
        """Compile the tokens from start to end (exclusive)."""
        first = tokens[start]
        if first.text == "(" and closing(tokens, start) == end - 1 and end - start > 2:
            return self.node(tokens, start + 1, end - 1, scope)
        simple = self._literal(tokens, start, end)
        if simple is not None:
            return simple
        if first.kind == "name" and first.text in self.roots:
            path, after = self.path(tokens, start, end)
            if after == end:
                return path
        if self.is_call(tokens, start, end) and closing(tokens, start + 1) == end - 1:
            return self.call(tokens, start, end, scope)
        return _CelWriter(self, tokens, scope).write(start, end)

    def _literal(self, tokens: list[Token], start: int, end: int) -> Literal | None:
        sign = 1
        if end - start == 2 and tokens[start].text == "-" and tokens[start + 1].kind == "number":
            start, sign = start + 1, -1
        if end - start != 1:
            return None
        token = tokens[start]
        if token.kind == "text":
            return Literal(text_of(token))
        if token.kind == "number":
            return Literal(sign * number_of(token))
        if token.text in _WORDS:
            return Literal(_WORDS[token.text])
        return None

    def path(self, tokens: list[Token], start: int, end: int) -> tuple[Path, int]:
        steps: list[str | int] = [tokens[start].text]
        at = start + 1
        while at + 1 < end:
            if tokens[at].text == "." and tokens[at + 1].kind == "name":
                if at + 2 < end and tokens[at + 2].text == "(":
                    break
                steps.append(tokens[at + 1].text)
                at += 2
            elif (
                tokens[at].text == "["
                and at + 2 < end
                and tokens[at + 2].text == "]"
                and (tokens[at + 1].kind == "text" or tokens[at + 1].text.isdecimal())
            ):
                inner = tokens[at + 1]
                steps.append(text_of(inner) if inner.kind == "text" else int(inner.text[:9]))
                at += 3
            else:
                break
        return Path(tuple(steps)), at

    def is_call(self, tokens: list[Token], start: int, end: int) -> bool:
        known = tokens[start].text in FUNCTIONS or tokens[start].text in ("coalesce", "has")
        return (
            known
            and tokens[start].kind == "name"
            and start + 1 < end
            and tokens[start + 1].text == "("
        )

    def call(self, tokens: list[Token], start: int, end: int, scope: frozenset[str]) -> Call:
        name, at = tokens[start].text, tokens[start].at
        ranges = arguments(tokens, start + 2, end - 1)
        nodes = tuple(self.node(tokens, begin, stop, scope) for begin, stop in ranges)
        least, most = (1, 8) if name == "coalesce" else (1, 1)
        if name in FUNCTIONS:
            _, least, most = FUNCTIONS[name]
        if not least <= len(nodes) <= most:
            raise BadExpression(
                say(
                    f"{name} 需要 {least} 到 {most} 个参数",
                    f"{name} takes {least} to {most} arguments",
                ),
                at,
            )
        if name == "has" and not isinstance(nodes[0], Path):
            raise BadExpression(say("has 里只能写路径", "has takes a path"), at)
        return Call(name, nodes)

    def unknown(self, token: Token, scope: frozenset[str]) -> BadExpression:
        """Return the refusal of a name nobody gave a meaning to."""
        if token.text in scope:
            return BadExpression(
                say(
                    f"{token.text} 是循环变量，不能交给函数；请改用 each",
                    f"{token.text} belongs to a loop and cannot go into a function; use each",
                ),
                token.at,
            )
        known = ", ".join(sorted(self.roots))
        return BadExpression(
            say(
                f"不认识“{token.text}”，可用：{known}", f"“{token.text}” is not known; use {known}"
            ),
            token.at,
        )


class _CelWriter:
    """Writes the CEL text of a token range, with paths and calls replaced by variables."""

    def __init__(self, compiler: Compiler, tokens: list[Token], outer: frozenset[str]) -> None:
        self.compiler, self.tokens, self.outer = compiler, tokens, outer
        self.bindings: list[Node] = []
        self.deepest = 0
        self.filters: set[int] = set()  # where a filter's bracket closes: its result may be looped
        self.compared: set[int] = set()

    def write(self, start: int, end: int) -> Cel:
        """Return the compiled node."""
        pieces = self._pieces(start, end, frozenset(), 0)
        source = " ".join(pieces)
        program = cel.compile_program(self.compiler.engine, source, len(self.bindings))
        compared = frozenset(self.compared)
        return Cel(program, source, tuple(self.bindings), end - start, self.deepest, compared)

    def _bind(self, node: Node, *, compared: bool) -> str:
        # Only paths are shared: 1, 1.0 and true are equal in Python, but not the same argument.
        if isinstance(node, Path) and node in self.bindings:
            number = self.bindings.index(node)
        else:
            self.bindings.append(node)
            number = len(self.bindings) - 1
        if compared:
            self.compared.add(number)
        return f"_p{number}"

    def _is_target(self, after: int, end: int) -> bool:
        """Tell whether a loop over a path begins here; what it costs is counted as rounds."""
        return after + 1 < end and self.tokens[after + 1].text in _MACROS

    def _pieces(self, start: int, end: int, scope: frozenset[str], loops: int) -> list[str]:
        out: list[str] = []
        at = start
        while at < end:
            token = self.tokens[at]
            if token.kind == "text":
                out.append(_quoted(text_of(token)))
                at += 1
            elif token.kind != "name":
                out.append(token.text)
                at += 1
            elif at > start and self.tokens[at - 1].text == ".":
                at = self._member(at, start, end, scope, loops, out)
            else:
                at = self._name(at, end, scope, loops, out)
        return out

    def _name(self, at: int, end: int, scope: frozenset[str], loops: int, out: list[str]) -> int:
        token = self.tokens[at]
        calls = at + 1 < end and self.tokens[at + 1].text == "("
        if calls and self.compiler.is_call(self.tokens, at, end):
            stop = closing(self.tokens, at + 1) + 1
            if token.text == "has" and self.tokens[at + 2].text in scope:
                out.append("has")
                return at + 1
            node = self.compiler.call(self.tokens, at, stop, self.outer | scope)
            out.append(self._bind(node, compared=loops > 0))
            return stop
        if token.text in scope or token.text in _WORDS or token.text == "in":
            out.append(token.text)
            return at + 1
        if calls and token.text in _GLOBAL_CALLS:
            out.append(token.text)
            return at + 1
        if token.text in self.compiler.roots and not calls:
            path, after = self.compiler.path(self.tokens, at, end)
            compared = loops > 0 and not self._is_target(after, end)
            out.append(self._bind(path, compared=compared))
            return after
        raise self.compiler.unknown(token, self.outer)

    def _member(
        self, at: int, start: int, end: int, scope: frozenset[str], loops: int, out: list[str]
    ) -> int:
        token = self.tokens[at]
        if not (at + 1 < end and self.tokens[at + 1].text == "("):
            out.append(token.text)
            return at + 1
        if token.text in _METHODS:
            if token.text == "matches":
                self._check_pattern(at)
            out.append(token.text)
            return at + 1
        if token.text not in _MACROS:
            raise BadExpression(
                say(f"没有方法 .{token.text}()", f"There is no method .{token.text}()"), token.at
            )
        self._check_target(at - 2, start)
        stop = closing(self.tokens, at + 1)
        ranges = arguments(self.tokens, at + 2, stop)
        if len(ranges) != 2 or ranges[0][1] - ranges[0][0] != 1:
            raise BadExpression(
                say(
                    f".{token.text}(变量, 条件) 需要两个参数",
                    f".{token.text}(variable, test) takes two arguments",
                ),
                token.at,
            )
        variable = self.tokens[ranges[0][0]]
        taken = self.compiler.roots | scope | self.outer | set(FUNCTIONS) | set(_WORDS)
        if variable.kind != "name" or variable.text in taken or variable.text.startswith("_"):
            raise BadExpression(
                say("循环变量请换一个名字", "Give the loop variable another name"), variable.at
            )
        if loops + 1 > _MAX_LOOPS:
            raise BadExpression(
                say("循环最多两层，请改用 each", "Loops nest two deep at most; use each"), token.at
            )
        self.deepest = max(self.deepest, loops + 1)
        if token.text == "filter":
            self.filters.add(stop)
        body = self._pieces(ranges[1][0], ranges[1][1], scope | {variable.text}, loops + 1)
        out += [token.text, "(", variable.text, ",", *body, ")"]
        return stop + 1

    def _check_pattern(self, at: int) -> None:
        written = self.tokens[at + 2]
        if written.kind != "text" or self.tokens[at + 3].text != ")":
            raise BadExpression(
                say("matches 里请直接写出正则表达式", "Write the pattern of matches out as text"),
                written.at,
            )
        problem = patterns.look(text_of(written)).problem
        if problem:
            raise BadExpression(
                say(f"这个正则表达式不能用：{problem}", f"This pattern cannot be used: {problem}"),
                written.at,
            )

    def _check_target(self, before: int, start: int) -> None:
        # Only what came in may be looped over. A list or text made inside the expression could be
        # doubled at every level, so thirty short levels would fill the memory.
        token = self.tokens[before] if before >= start else None
        good = token is not None and (
            token.kind == "name" or before in self.filters or token.text == "]"
        )
        if good and token is not None and token.text == "]":
            opened = _opening(self.tokens, before)
            good = opened > start and self.tokens[opened - 1].kind == "name"
        if not good:
            raise BadExpression(
                say(
                    "循环只能用于路径或 filter 的结果", "Loops run over a path or a filter's result"
                )
            )


def _opening(tokens: list[Token], end: int) -> int:
    for position in range(end, -1, -1):
        if tokens[position].text == "[" and closing(tokens, position) == end:
            return position
    return 0


def _quoted(text: str) -> str:
    out = text.replace("\\", "\\\\").replace('"', '\\"')
    for plain, escaped in (("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
        out = out.replace(plain, escaped)
    return f'"{out}"'


def number_of(token: Token) -> int | Decimal:
    """Return the exact number a token writes."""
    if token.text.isdecimal():
        return int(token.text)
    number = Decimal(token.text)
    if abs(number.adjusted()) > 100:
        raise BadExpression(say("数字太大", "The number is out of range"), token.at)
    return number

"""CEL by cel-expr-python, the C++ engine of the language's own makers."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from cel_expr_python import cel

from connectors.engine.cel import Program, come_back, failed, refused
from connectors.engine.functions import MAX_TEXT


@cache
def _native_environment(count: int) -> Any:
    return cel.NewEnv(variables={f"_p{number}": cel.Type.DYN for number in range(count)})


def compile_program(source: str, count: int) -> Program:
    """Compile with cel-expr-python; `count` variables _p0… may be bound."""
    environment = _native_environment(max(8, count))
    try:
        compiled = environment.compile(source)
    except Exception as broken:
        raise refused(str(broken)) from broken

    def run(values: Mapping[str, Any]) -> Any:
        try:
            result = compiled.eval(data=values)
        except Exception as broken:
            raise failed(str(broken)) from broken
        plain = result.plain_value()
        if result.type().name() == "ERROR":
            raise failed(str(plain))
        return come_back(plain, [MAX_TEXT])

    return run

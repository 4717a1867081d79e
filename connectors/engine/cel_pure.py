"""CEL by cel-python: pure Python, slower, for machines without a wheel of the native engine."""

from collections.abc import Mapping
from typing import Any

from celpy import Environment, adapter, celparser, celtypes, evaluation

from connectors.engine.cel import Program, come_back, failed, refused
from connectors.engine.functions import MAX_TEXT


def compile_program(source: str, count: int) -> Program:
    """Compile with cel-python, which is pure Python and slower; `count` is not needed."""
    del count
    environment = Environment()
    try:
        program = environment.program(environment.compile(source))
    except (celparser.CELParseError, RecursionError) as broken:
        raise refused(str(broken)) from broken

    def plain(value: Any) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, celtypes.BoolType):
            return bool(value)
        if isinstance(value, celtypes.IntType | celtypes.UintType):
            return int(value)
        if isinstance(value, celtypes.MapType):
            return {plain(key): plain(one) for key, one in value.items()}
        if isinstance(value, celtypes.ListType | list):
            return [plain(one) for one in value]
        if isinstance(value, celtypes.StringType):
            return str(value)
        return float(value) if isinstance(value, float) else value

    def run(values: Mapping[str, Any]) -> Any:
        bound = {name: adapter.json_to_cel(value) for name, value in values.items()}
        try:
            result = program.evaluate(bound)
        except (evaluation.CELEvalError, RecursionError) as broken:
            raise failed(str(broken.args[0] if broken.args else broken)) from broken
        return come_back(plain(result), [MAX_TEXT])

    return run

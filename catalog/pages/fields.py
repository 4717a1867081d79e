"""JSON that people type on pages: texts to values."""

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from catalog.findings import say
from kernel import documents, web
from kernel.errors import N_, Invalid, Problem

M = TypeVar("M", bound=BaseModel)


def json_of(name: str, text: str) -> Any:
    """Read a JSON text from a form's field; an empty one is None; errors name the field."""
    if not text.strip():
        return None
    try:
        return documents.parse(text.encode())
    except Problem as problem:
        words = say(N_("This is not JSON: %(why)s"), why=problem.plain())
        raise Invalid(errors=[{"pointer": f"/{name}", "message": words}]) from problem


def validated(model: type[M], values: dict[str, Any]) -> M:
    """Hold a form's values against a model; what is wrong comes back by field."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise Invalid(errors=web.field_errors(error)) from error

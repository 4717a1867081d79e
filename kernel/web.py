"""The edge: JSON in and out, problems as RFC 9457 or a page, languages, cursors, OpenAPI."""

import base64
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from flask import Flask, Response, g, has_request_context, render_template, request
from flask_babel import Babel, gettext
from pydantic import BaseModel, ValidationError
from sqlalchemy import Select
from sqlmodel import Session
from werkzeug.datastructures import ImmutableMultiDict
from werkzeug.exceptions import HTTPException

from kernel import documents, ids, log
from kernel.errors import N_, FieldError, Invalid, Malformed, Problem, UnsupportedMedia
from kernel.settings import settings

_logger = log.get_logger(__name__)
LANGUAGES = {"zh": "zh_Hans_CN", "en": "en"}
MAX_JSON_BYTES = 1 << 20
View = Callable[..., Any]


# --- languages ---------------------------------------------------------------------------------


def current_language() -> str:
    """Return `zh` or `en`: the address's ?lang, the cookie, the browser's wish, else Chinese."""
    if not has_request_context():
        return "zh"
    for wish in (request.args.get("lang"), request.cookies.get("yf_lang")):
        if wish in LANGUAGES:
            return wish
    return request.accept_languages.best_match(["zh", "en"], default="zh") or "zh"


def localized(value: Any, language: str | None = None) -> str:
    """Pick the reader's words out of a {zh, en} value; the other language when one is missing."""
    if not isinstance(value, Mapping):
        return "" if value is None else str(value)
    wish = language or current_language()
    return str(value.get(wish) or value.get("zh") or value.get("en") or "")


def install_languages(app: Flask, directories: Sequence[str]) -> None:
    """Set flask-babel up with one catalogue per package, and remember a switched language."""
    app.config["BABEL_DEFAULT_LOCALE"] = LANGUAGES["zh"]
    app.config["BABEL_DEFAULT_TIMEZONE"] = settings().time_zone
    app.config["BABEL_TRANSLATION_DIRECTORIES"] = ";".join(directories)
    Babel(app, locale_selector=lambda: LANGUAGES[current_language()])
    app.jinja_env.filters["localized"] = localized
    app.jinja_env.globals["current_language"] = current_language

    @app.after_request
    def _remember(response: Response) -> Response:
        wish = request.args.get("lang")
        if wish in LANGUAGES and wish != request.cookies.get("yf_lang"):
            secure = settings().base_url.startswith("https://")
            response.set_cookie(
                "yf_lang", wish, 31_536_000, secure=secure, httponly=True, samesite="Lax"
            )
        return response


# --- problems ----------------------------------------------------------------------------------


def problem_body(problem: Problem) -> dict[str, Any]:
    """Shape a problem as RFC 9457, in the reader's language."""
    body: dict[str, Any] = {
        "type": f"/problems/{problem.code}",
        "title": _words(problem.title, problem.params),
        "status": problem.status,
        "code": problem.code,
        "trace_id": trace_id(),
    }
    if problem.detail:
        body["detail"] = _words(problem.detail, problem.params)
    if problem.errors:
        body["errors"] = [
            {**error, "message": _words(said, {})}
            for error, said in ((error, error["message"]) for error in problem.errors)
        ]
    return body


def _words(msgid: str, params: Mapping[str, Any]) -> str:
    translated: str = gettext(msgid)
    return translated % params if params else translated


def trace_id() -> str:
    """Return the id that ties this request's answer to our logs."""
    if not has_request_context():
        return ""
    if "trace_id" not in g:
        g.trace_id = ids.new_id("trc")
    return str(g.trace_id)


def wants_page() -> bool:
    """Tell whether a person's browser is asking, rather than a program."""
    if request.path.startswith(("/api/", "/in/", "/oauth/", "/scim/", "/mcp")):
        return False
    if "HX-Request" in request.headers:
        return True
    return request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html"


def answer_problem(problem: Problem) -> Response:
    """Answer with problem+json, or with a page in the reader's language."""
    body = problem_body(problem)
    if wants_page():
        response = Response(render_template("marketplace/error.html", problem=body))
    else:
        response = Response(orjson.dumps(body), mimetype="application/problem+json")
    response.status_code = problem.status
    if problem.retry_after_seconds is not None:
        response.headers["Retry-After"] = str(problem.retry_after_seconds)
    if problem.status == 401 and not wants_page():
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def install_problems(app: Flask) -> None:
    """Answer every Problem, HTTP error and crash in one shape, with a trace id in the logs."""

    @app.before_request
    def _start() -> None:
        log.clear()
        log.bind(trace_id=trace_id())

    @app.errorhandler(Problem)
    def _problem(problem: Problem) -> Response:
        return answer_problem(problem)

    @app.errorhandler(HTTPException)
    def _http(error: HTTPException) -> Response:
        problem = Problem(error.name, code=re.sub(r"\W+", "_", error.name.lower()))
        problem.status = error.code or 500
        if problem.status == 413:
            # the page that says so must not try to read the form once more
            request.form, request.files = ImmutableMultiDict(), ImmutableMultiDict()
        answer = answer_problem(problem)
        for name, value in error.get_headers():
            if name.lower() in {"allow", "location", "content-range"}:
                answer.headers[name] = value
        return answer

    @app.errorhandler(OverflowError)
    def _too_large(error: OverflowError) -> Response:
        # a number or a day that no column, and no calendar, reaches to: the caller's value
        _logger.warning("value_out_of_range", path=request.path, error=str(error)[:200])
        return answer_problem(Invalid(detail=N_("A number or a time is out of range")))

    @app.errorhandler(Exception)
    def _crash(error: Exception) -> Response:
        _logger.error("request_crashed", path=request.path, exc_info=error)
        return answer_problem(Problem())


# --- JSON operations ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Operation:
    """What OpenAPI needs to know of a JSON route."""

    summary: str
    body: type[BaseModel] | None
    returns: type[BaseModel] | None
    many: bool
    status: int


def operation(
    *,
    summary: str,
    body: type[BaseModel] | None = None,
    returns: type[BaseModel] | None = None,
    many: bool = False,
    status: int = 200,
) -> Callable[[View], Callable[..., Response]]:
    """Make a view a JSON operation.

    The request's JSON is validated into `body` and passed as the argument `body`; what the view
    returns (a table row, a model, a Page with many=True, or None for 204) is shaped by `returns`.
    """
    described = Operation(summary, body, returns, many, status)

    def wrap(view: View) -> Callable[..., Response]:
        @functools.wraps(view)
        def run(*args: Any, **kwargs: Any) -> Response:
            if body is not None:
                kwargs["body"] = read_json(body)
            return _shape(view(*args, **kwargs), described)

        run.operation = described  # type: ignore[attr-defined]
        return run

    return wrap


def read_json(model: type[BaseModel]) -> Any:
    """Read the request's JSON into a model; wrong values become field errors with pointers."""
    if request.mimetype not in ("application/json", ""):
        raise UnsupportedMedia(detail="Send application/json")
    raw = request.get_data(cache=False)
    if not raw:
        raise Malformed(detail="The request has no body")
    try:
        return model.model_validate(documents.parse(raw, max_bytes=MAX_JSON_BYTES))
    except ValidationError as error:
        raise Invalid(errors=field_errors(error)) from error


def field_errors(error: ValidationError) -> list[FieldError]:
    """Turn pydantic's findings into pointers and messages."""
    return [
        {"pointer": "".join(f"/{part}" for part in found["loc"]), "message": found["msg"]}
        for found in error.errors(include_url=False, include_context=False, include_input=False)
    ]


def _shape(result: Any, described: Operation) -> Response:
    if isinstance(result, Response):
        return result
    if result is None:
        return Response(status=204)
    if described.many:
        items, cursor = (
            (result.items, result.next_cursor) if isinstance(result, Page) else (result, None)
        )
        value: Any = {"items": [_out(i, described.returns) for i in items], "next_cursor": cursor}
    else:
        value = _out(result, described.returns)
    return json_response(value, described.status)


def _out(value: Any, model: type[BaseModel] | None) -> Any:
    if model is not None and not isinstance(value, model):
        value = model.model_validate(value, from_attributes=True)
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def json_response(value: Any, status: int = 200) -> Response:
    """Answer with compact JSON; decimals keep their digits."""
    return Response(documents.dump(value), status=status, mimetype="application/json")


# --- cursor pages ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Page:
    """Some rows and where the next ones start."""

    items: list[Any]
    next_cursor: str | None


def page_of(
    session: Session,
    statement: "Select[Any]",
    id_column: Any,
    *,
    cursor: str | None = None,
    limit: int = 50,
) -> Page:
    """Return a page of rows, newest first; ids sort by time, so the last id is the cursor."""
    limit = max(1, min(limit, 200))
    if cursor:
        try:
            last = base64.b64decode(cursor.encode(), b"-_", validate=True).decode("ascii")
        except ValueError as error:
            raise Malformed(detail="This cursor is not one of ours") from error
        if not last.isprintable():  # PostgreSQL refuses NUL, and no id of ours has one
            raise Malformed(detail="This cursor is not one of ours")
        statement = statement.where(id_column < last)
    rows = list(session.execute(statement.order_by(id_column.desc()).limit(limit + 1)).scalars())
    more = len(rows) > limit
    rows = rows[:limit]
    key = getattr(rows[-1], id_column.key) if more else None
    return Page(rows, base64.urlsafe_b64encode(key.encode()).decode() if key else None)


# --- OpenAPI -----------------------------------------------------------------------------------


def openapi(app: Flask, version: str) -> dict[str, Any]:
    """Describe every JSON operation of the URL map as OpenAPI 3.1."""
    paths: dict[str, dict[str, Any]] = {}
    schemas: dict[str, Any] = {"Problem": _PROBLEM_SCHEMA}
    for rule in app.url_map.iter_rules():
        described = getattr(app.view_functions[rule.endpoint], "operation", None)
        if described is None:
            continue
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            paths.setdefault(path, {})[method.lower()] = _describe(
                rule.endpoint, described, sorted(rule.arguments), schemas
            )
    return {
        "openapi": "3.1.0",
        "info": {"title": "Yangfan", "version": version},
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": schemas,
            "securitySchemes": {"apiKey": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"apiKey": []}],
    }


_PROBLEM_SCHEMA = {
    "type": "object",
    "required": ["type", "title", "status", "code"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string"},
        "detail": {"type": "string"},
        "trace_id": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"pointer": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}


def _describe(
    endpoint: str, described: Operation, arguments: list[str], schemas: dict[str, Any]
) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "operationId": endpoint.replace(".", "_"),
        "summary": described.summary,
        "parameters": [
            {"name": a, "in": "path", "required": True, "schema": {"type": "string"}}
            for a in arguments
        ],
        "responses": {
            "default": {
                "description": "A problem",
                "content": {
                    "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
                },
            }
        },
    }
    if described.body is not None:
        entry["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _reference(described.body, schemas)}},
        }
    answer: dict[str, Any] = {"description": "Done"}
    if described.returns is not None:
        schema = _reference(described.returns, schemas)
        if described.many:
            schema = {
                "type": "object",
                "properties": {
                    "items": {"type": "array", "items": schema},
                    "next_cursor": {"type": ["string", "null"]},
                },
            }
        answer["content"] = {"application/json": {"schema": schema}}
    entry["responses"][str(described.status)] = answer
    return entry


def _reference(model: type[BaseModel], schemas: dict[str, Any]) -> dict[str, Any]:
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(schema.pop("$defs", {}))
    schemas[model.__name__] = schema
    return {"$ref": f"#/components/schemas/{model.__name__}"}

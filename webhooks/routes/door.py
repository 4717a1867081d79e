"""POST /in/<token>: the address of a source, open to machines that can prove who they are."""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from flask import Blueprint, Response, request
from flask_babel import gettext
from werkzeug.exceptions import MethodNotAllowed

from identity.guard import public
from kernel.errors import FieldError
from kernel.web import problem_body
from webhooks import gate, intake
from webhooks.errors import EventsRejected
from webhooks.intake import Received
from webhooks.openings import RECIPE, Asked, RecipeRefused
from webhooks.recipes.reading import ALONE, Reply

blueprint = Blueprint("intake", __name__)
_CHUNK = 64 * 1024


@blueprint.post("/in/<token>", provide_automatic_options=False)
@public(csrf=False)
def receive(token: str) -> Response:
    """Take one event or an array of them in; answers 2xx only once they are committed."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    examined = request.environ.get("asgi.scope", {}).get(gate.EXAMINED)
    asked = Asked("POST", request.path, request.query_string)
    try:
        received = intake.take_in(token, headers, _read, request.remote_addr or "", examined, asked)
    except RecipeRefused as refused:
        if refused.reply is None:
            raise
        return _reply(refused.reply)
    return _answer(received)


@blueprint.get("/in/<token>", provide_automatic_options=False)
@public(csrf=False)
def prove(token: str) -> Response:
    """Answer a sender that asks whether its owner has this address, where a recipe says how."""
    if intake.find_source(token).scheme != RECIPE:
        raise MethodNotAllowed(["POST", "OPTIONS"])
    headers = {name.lower(): value for name, value in request.headers.items()}
    asked = Asked("GET", request.path, request.query_string)
    try:
        received = intake.take_in(
            token, headers, lambda _: b"", request.remote_addr or "", asked=asked
        )
    except RecipeRefused as refused:
        if refused.reply is None:
            raise
        return _reply(refused.reply)
    return _answer(received)


def _reply(reply: Reply) -> Response:
    response = Response(reply.body, reply.status, content_type=reply.content_type)
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Content-Security-Policy"] = ALONE
    return response


@blueprint.route("/in/<token>", methods=["OPTIONS"], provide_automatic_options=False)
@public(csrf=False)
def handshake(token: str) -> Response:
    """Tell a CloudEvents sender that its deliveries are wanted here."""
    intake.find_source(token)
    response = Response(status=204, headers={"Allow": "POST, OPTIONS"})
    origin = request.headers.get("WebHook-Request-Origin")
    if origin:
        response.headers["WebHook-Allowed-Origin"] = origin[:300]
        response.headers["WebHook-Allowed-Rate"] = "*"
    return response


def _read(most: int) -> bytes:
    """Read at most so many bytes, however the sender cuts them up."""
    parts: list[bytes] = []
    left = most
    while left > 0:
        part = request.stream.read(min(left, _CHUNK))
        if not part:
            break
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _answer(received: Received) -> Response:
    if received.reply is not None:
        # also for what is kept for repair: its sender can do no more about it
        return _reply(received.reply)
    rejected: list[dict[str, Any]] = [
        {"index": one.index, "id": one.id, "errors": _in_words(one.errors)}
        for one in received.rejected
    ]
    if not received.accepted:
        prefix = received.is_list
        problem = EventsRejected(
            errors=[
                {"pointer": f"/{one['index']}{e['pointer']}" if prefix else e["pointer"],
                 "message": e["message"]}
                for one in rejected for e in one["errors"]
            ]
        )  # fmt: skip
        body: Mapping[str, Any] = {**problem_body(problem), "rejected": rejected}
        return Response(orjson.dumps(body), problem.status, mimetype="application/problem+json")
    if not rejected:
        return Response(gate.answer(received), 202, mimetype="application/json")
    accepted = [
        {"id": one.id, "duplicate": one.is_duplicate, "index": index}
        for index, one in received.accepted
    ]
    answer = {"accepted": accepted, "rejected": rejected}
    return Response(orjson.dumps(answer), 202, mimetype="application/json")


def _in_words(errors: Iterable[FieldError]) -> list[FieldError]:
    said = [(error["pointer"], error["message"]) for error in errors]
    return [{"pointer": pointer, "message": gettext(msgid)} for pointer, msgid in said]

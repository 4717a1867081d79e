"""The AsyncAPI document: what whoever asks can receive, as JSON and as YAML."""

import hashlib
from functools import lru_cache
from typing import Any

import orjson
import yaml
from flask import Blueprint, Response, request
from flask_babel import gettext

from catalog import event_types
from identity.guard import principal_or_none, public
from kernel import documents, web
from kernel.database import reading
from webhooks import asyncapi

blueprint = Blueprint("asyncapi", __name__)
_JSON, _YAML = "application/vnd.aai.asyncapi+json", "application/vnd.aai.asyncapi+yaml"
# The C writer where libyaml is there: the whole vocabulary is over a megabyte.
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


@blueprint.get("/asyncapi.json")
@public
@web.operation(summary="Describe the events you can receive, as AsyncAPI 3.0 in JSON")
def describe_events() -> Response:
    """Describe what the organization can receive; for nobody in particular the vocabulary."""
    return _answer(_written(), f"{_JSON};version={asyncapi.VERSION}")


@blueprint.get("/asyncapi.yaml")
@public
@web.operation(summary="Describe the events you can receive, as AsyncAPI 3.0 in YAML")
def describe_events_in_yaml() -> Response:
    """Describe the same in YAML."""
    return _answer(_in_yaml(_written()), f"{_YAML};version={asyncapi.VERSION}")


def _written() -> bytes:
    who, language = principal_or_none(), web.current_language()
    about = gettext(asyncapi.ABOUT)
    if who is None:
        return _vocabulary(language, about)
    with reading(who.organization_id) as session:
        types = event_types.all_versions(session, who.organization_id)
    return documents.dump(asyncapi.document(types, language, about))


@lru_cache(maxsize=4)
def _vocabulary(language: str, about: str) -> bytes:
    return documents.dump(asyncapi.document(event_types.built_in().values(), language, about))


@lru_cache(maxsize=4)
def _in_yaml(written: bytes) -> bytes:
    text = yaml.dump(
        orjson.loads(written), Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=120
    )
    return str(text).encode()


def _answer(body: bytes, content_type: str) -> Response:
    response = Response(body, content_type=content_type)
    response.set_etag(hashlib.sha256(body).hexdigest()[:32])
    response.headers["Cache-Control"] = "private, no-cache"
    response.headers["Vary"] = "Accept-Language, Authorization, Cookie"
    response.make_conditional(request)
    return response

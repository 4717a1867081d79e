"""AsyncAPI: the events a subscriber may get, written down as an AsyncAPI 3.0 document.

Every event type has a channel and an operation, every version of it a message: headers as Standard
Webhooks has them, and a CloudEvents envelope around the type's schema. Shapes that many types share
stand once under `components`.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from catalog import event_types
from catalog.event_types import EventType
from kernel import web
from kernel.errors import N_
from kernel.settings import settings
from webhooks.parcels import CONTENT_TYPE

VERSION = "3.0.0"
_SCHEMAS = "#/components/schemas/"
_LOCAL = "#/$defs/"
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
# `$schema` and `$id` would make a part of the document a document of its own.
_OWN_DOCUMENT = ("$schema", "$id")
ABOUT = N_(
    "Every event goes out as a CloudEvent in structured mode, signed the Standard Webhooks way. It"
    " is delivered at least once: equal webhook-id means the same event with the same body. Answer"
    " with 2xx within 15 seconds. Data above 256 kB is referred to by dataref instead of data,"
    " unless the endpoint asks for all of it."
)


def document(types: Iterable[EventType], language: str, about: str) -> dict[str, Any]:
    """Describe event types, all the versions that are given, to whoever receives them."""
    found = sorted(types, key=lambda one: (one.name, one.version))
    schemas: dict[str, Any] = {"cloudevent": _ENVELOPE, "webhookHeaders": _HEADERS}
    messages: dict[str, Any] = {}
    channels: dict[str, Any] = {}
    for one in found:
        key = _key(f"{one.name}.v{one.version}")
        schemas[key] = _data_schema(one, key, schemas)
        messages[key] = _message(one, key, language)
        channel = channels.setdefault(_key(one.name), _channel(one, language))
        channel["messages"][key] = {"$ref": f"#/components/messages/{key}"}
    return {
        "asyncapi": VERSION,
        "id": f"{settings().base_url.rstrip('/')}/api/v1/asyncapi.json",
        "info": {
            "title": "扬帆 Yangfan",
            "version": "1",
            "description": about,
            "externalDocs": {"url": f"{settings().base_url.rstrip('/')}/events-catalogue"},
        },
        "defaultContentType": CONTENT_TYPE,
        "servers": {"endpoint": _SERVER},
        "channels": channels,
        "operations": {
            f"send.{key}": {
                "action": "send",
                "channel": {"$ref": f"#/channels/{key}"},
                "title": channel["title"],
                "messages": [
                    {"$ref": f"#/channels/{key}/messages/{name}"} for name in channel["messages"]
                ],
            }
            for key, channel in channels.items()
        },
        "components": {
            "schemas": schemas,
            "messages": messages,
            "securitySchemes": {"standardWebhooks": _SIGNATURE},
        },
    }


def _key(name: str) -> str:
    """Return a name as the keys of a document may be written."""
    return _UNSAFE.sub("-", name)


def _channel(one: EventType, language: str) -> dict[str, Any]:
    return {
        "address": "{path}",
        "title": web.localized(one.title, language) or one.name,
        "parameters": {"path": {"description": "The path of your endpoint"}},
        "servers": [{"$ref": "#/servers/endpoint"}],
        "messages": {},
    }


def _message(one: EventType, key: str, language: str) -> dict[str, Any]:
    envelope = {
        "allOf": [
            {"$ref": f"{_SCHEMAS}cloudevent"},
            {
                "type": "object",
                "properties": {
                    "type": {"const": one.name},
                    "version": {"const": one.version},
                    "data": {"$ref": f"{_SCHEMAS}{key}"},
                },
            },
        ]
    }
    message: dict[str, Any] = {
        "name": one.name,
        "title": web.localized(one.title, language) or one.name,
        "contentType": CONTENT_TYPE,
        "headers": {"$ref": f"{_SCHEMAS}webhookHeaders"},
        "payload": envelope,
    }
    if one.sample is not None:
        message["examples"] = [{"name": key, "payload": _example(one)}]
    return message


def _example(one: EventType) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": "evt_01KB5Z3J8Q0000000000000000",
        "source": f"{settings().base_url.rstrip('/')}/api",
        "type": one.name,
        "time": "2026-11-27T08:00:00Z",
        "datacontenttype": "application/json",
        "version": one.version,
        "data": one.sample,
    }


def _data_schema(one: EventType, key: str, schemas: dict[str, Any]) -> Any:
    """Return a type's schema with its references pointing into the document."""
    own = one.schema.get("$defs", {})
    shapes = event_types.shapes()
    shared = {name for name, part in own.items() if shapes.get(name) == part}
    for name in sorted(shared):
        if name not in schemas:
            schemas[name] = _moved(own[name], shared, key)
    moved: dict[str, Any] = _moved(one.schema, shared, key)
    kept = {name: part for name, part in moved.get("$defs", {}).items() if name not in shared}
    moved.pop("$defs", None)
    for name in _OWN_DOCUMENT:
        moved.pop(name, None)
    return moved | ({"$defs": kept} if kept else {})


def _moved(value: Any, shared: set[str], key: str) -> Any:
    if isinstance(value, list):
        return [_moved(item, shared, key) for item in value]
    if not isinstance(value, Mapping):
        return value
    return {
        name: _moved_reference(item, shared, key)
        if name == "$ref" and isinstance(item, str)
        else _moved(item, shared, key)
        for name, item in value.items()
    }


def _moved_reference(reference: str, shared: set[str], key: str) -> str:
    if not reference.startswith("#"):
        return reference
    name, _, below = reference.removeprefix(_LOCAL).partition("/")
    if reference.startswith(_LOCAL) and name in shared:
        return _SCHEMAS + name + (f"/{below}" if below else "")
    return f"{_SCHEMAS}{key}{reference.removeprefix('#')}"


_TEXT = {"type": "string"}
_ENVELOPE = {
    "type": "object",
    "title": "CloudEvents 1.0",
    "required": ["specversion", "id", "source", "type", "time"],
    "properties": {
        "specversion": {"const": "1.0"},
        "id": {**_TEXT, "description": "The same as the header webhook-id"},
        "source": {**_TEXT, "format": "uri-reference"},
        "type": _TEXT,
        "time": {**_TEXT, "format": "date-time"},
        "subject": _TEXT,
        "datacontenttype": _TEXT,
        "version": {"type": "integer", "minimum": 1, "description": "The version of the type"},
        "data": {},
        "data_base64": {**_TEXT, "description": "Data that is not JSON"},
        "dataref": {
            **_TEXT,
            "format": "uri",
            "description": "Where data above 256 kB is fetched, byte for byte",
        },
        "datasha256": {**_TEXT, "description": "SHA-256 in hex of what dataref leads to"},
    },
    "anyOf": [{"required": [name]} for name in ("data", "data_base64", "dataref")],
}
_HEADERS = {
    "type": "object",
    "required": ["webhook-id", "webhook-timestamp", "webhook-signature"],
    "properties": {
        "webhook-id": {**_TEXT, "description": "The event's id, the same at every try"},
        "webhook-timestamp": {**_TEXT, "description": "Seconds since 1970 of this try"},
        "webhook-signature": {
            **_TEXT,
            "description": "v1 (HMAC-SHA256) or v1a (ed25519) signatures, parted by blanks",
        },
        "content-type": {"const": CONTENT_TYPE},
    },
}
_SIGNATURE = {
    "type": "httpApiKey",
    "in": "header",
    "name": "webhook-signature",
    "description": "Standard Webhooks: the signed text is webhook-id.webhook-timestamp.body",
}
_SERVER = {
    "host": "{host}",
    "protocol": "https",
    "description": "Your own server: the hub calls the address you register as an endpoint.",
    "variables": {"host": {"default": "erp.example.com", "description": "Your host"}},
    "security": [{"$ref": "#/components/securitySchemes/standardWebhooks"}],
}
